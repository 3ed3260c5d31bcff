"""A trainer at the Train page: five steps by keyboard, a click that mends the form, a run that is looked at,
asked and compared. Runs are rows here, but for the last test, where the engine makes one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from storage import checkpoints, prompts, runs
from storage.engine import Database, open_database
from storage.models import Checkpoint, Run
from tests.browser.conftest import Studio
from tests.storage.ready import ready
from tests.ui.conftest import finished_group, png
from tests.ui.serving import GRADIO_NOISE, web
from ui import tuning
from ui.forms import RunForm
from ui.run_words import title
from ui.services import Services

pytestmark = GRADIO_NOISE
WORK_MS = 280_000


@dataclass(frozen=True)
class Site:
    """A studio without an engine."""

    db: Database
    url: str
    base: Checkpoint


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    db = open_database(ready(tmp_path_factory.mktemp("train") / "home"))
    base = checkpoints.register_base(db, name="starter", source="nowhere", family="StableDiffusionXLPipeline")
    with web(db) as url:
        yield Site(db, url, base)
    db.close()


@pytest.fixture
def site(house: Site, page: Page) -> Iterator[Site]:
    """The studio with no run under way."""
    for run in runs.list_runs(house.db):
        if run.state == "queued":
            runs.request_stop(house.db, run.id)
        if run.state in runs.ACTIVE:
            runs.move(house.db, run.id, to="completed", from_states=("running",), attempt=1)
    yield house
    page.goto("about:blank")


def newest(site: Site) -> Run:
    return runs.list_runs(site.db)[0]


def shows(page: Page, run: Run) -> None:
    expect(page.locator("#run .title")).to_have_text(title(run))


def step(page: Page, number: int) -> None:
    page.locator(f".steps [data-goto='{number}']").click()


def running(db: Database, base: Checkpoint, name: str = "mine") -> Run:
    """A run of six updates with curves, samples at fixed seeds, and a checkpoint."""
    form = RunForm(name=name, prompts="portrait, smile", weights={"verifier": 1}, num_updates=6)
    run = tuning.start(Services(db), base.id, form)
    runs.claim_run(db, host="h", boot_id="b")
    runs.move(db, run.id, to="running", from_states=("starting",), attempt=1)
    for update in range(1, 5):
        values = {"reward/verifier": update / 10, "reward_std/verifier": 0.05, "seconds/update": 2.0}
        runs.record_metrics(db, run.id, 1, update, values | {"seconds/rollout": 1.0})
    for update in (0, 2, 4):
        finished_group(db, [0.5, 0.6], checkpoint=base, kind="sample", run_id=run.id, update=update)
    runs.beat(db, run.id, 1, 4, 6, "updating", 3.0)
    checkpoints.commit_checkpoint(
        db, run_id=run.id, attempt=1, update=2, name=f"{name}, update 2", path="p", sha256="0" * 64
    )
    return runs.get_run(db, run.id)


def test_five_steps_are_walked_and_a_run_started_without_a_mouse(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/train")
    expect(page.locator("#plan")).to_contain_text("2 updates")
    turn = page.get_by_role("button", name="Next")
    turn.focus()
    for number, field in (
        (2, "#train-prompts textarea"),
        (3, "#weight-verifier input"),
        (4, "#updates input"),
    ):
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{site.url}/train?step={number}")
        expect(page.locator(field)).to_be_visible()
    page.locator("#updates input").fill("3")
    page.keyboard.press("Tab")
    expect(page.locator("#plan")).to_contain_text("3 updates")
    page.reload()
    expect(page.locator("#updates input")).to_be_visible()
    expect(page.locator("#plan")).to_contain_text("3 updates")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".headline[data-run]")).to_have_attribute("data-state", "queued")
    assert newest(site).config["num_updates"] == 3


def test_a_fix_changes_the_form_and_clears_what_stood_against_it(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/train?step=2")
    page.locator("#train-prompts textarea").fill(
        "portrait, smile\nportrait, wistful buns, red hair\nportrait, buns"
    )
    page.locator("#held-out textarea").fill("portrait, smile")
    expect(page.locator("#plan")).to_contain_text("both a training and a held-out prompt")
    page.locator("#plan button").click()
    page.get_by_role("button", name="Keep them held out").click()
    page.get_by_role("button", name="Remove these words").click()
    expect(page.locator(".checks")).not_to_contain_text("wistful")
    expect(page.locator("#plan")).to_contain_text("2 updates")
    step(page, 2)
    expect(page.locator("#train-prompts textarea")).to_have_value("portrait, red hair\nportrait, buns")
    expect(page.locator("#held-out textarea")).to_have_value("portrait, smile")


def test_a_saved_prompt_set_fills_in_both_lists(page: Page, site: Site) -> None:
    prompts.save_prompt_set(site.db, "faces", ["portrait, buns", "portrait, smile"], ["portrait, red hair"])
    page.goto(f"{site.url}/train?step=2")
    page.locator("#prompt-set input").click()
    page.get_by_role("option", name="faces v1").click()
    expect(page.locator("#train-prompts textarea")).to_have_value("portrait, buns\nportrait, smile")
    expect(page.locator("#held-out textarea")).to_have_value("portrait, red hair")
    page.locator("#start-run").click()
    expect(page.locator(".headline[data-run]")).to_have_attribute("data-state", "queued")
    assert newest(site).prompt_set_id == prompts.list_prompt_sets(site.db)[0].id


def sources(page: Page) -> list[str | None]:
    return [image.get_attribute("src") for image in page.locator(".through .now img").all()]


def test_the_slider_moves_through_time_without_asking_for_anything_but_images(page: Page, site: Site) -> None:
    run = running(site.db, site.base)
    page.goto(f"{site.url}/train?run={run.id}")
    slider = page.locator(".time input")
    expect(page.locator(".time output")).to_have_text("update 4")
    last = sources(page)
    slider.focus()
    for update in (2, 0):
        page.keyboard.press("ArrowLeft")
        expect(page.locator(".time output")).to_have_text(f"update {update}")
    assert not set(sources(page)) & set(last)
    finished_group(site.db, [0.5, 0.6], checkpoint=site.base, kind="sample", run_id=run.id, update=5)
    expect(page.locator("#samples h2")).to_contain_text("0 → 5")
    expect(page.locator(".time output")).to_have_text("update 0")


def test_a_curve_opens_large_and_is_read_off_by_keyboard(page: Page, site: Site) -> None:
    run = running(site.db, site.base)
    page.goto(f"{site.url}/train?run={run.id}")
    page.get_by_role("button", name="Enlarge: verifier × 1").press("Enter")
    read = page.locator("dialog.curvebox .read")
    expect(read).to_have_text("update 4 · 0.4 ± 0.05")
    page.keyboard.press("ArrowLeft")
    expect(read).to_have_text("update 3 · 0.3 ± 0.05")
    page.keyboard.press("Escape")
    expect(page.locator("dialog.curvebox")).to_have_count(0)
    expect(page.locator(".phases figcaption b")).to_have_text("3.0 s")


def test_curves_are_left_alone_until_there_is_news(page: Page, site: Site) -> None:
    run = running(site.db, site.base)
    page.goto(f"{site.url}/train?run={run.id}")
    expect(page.locator(".curve")).to_have_count(2)
    page.locator(".curve").first.evaluate("curve => { curve.dataset.old = 'yes'; }")
    runs.beat(site.db, run.id, 1, 4, 6, "drawing samples", 3.0)
    expect(page.locator("#run .note").first).to_contain_text("drawing samples")
    expect(page.locator(".curve[data-old]")).to_have_count(1)
    runs.record_metrics(site.db, run.id, 1, 5, {"reward/verifier": 0.5})
    expect(page.locator(".curve figcaption b").first).to_have_text("0.500")
    expect(page.locator(".curve[data-old]")).to_have_count(0)


def test_a_run_is_asked_to_pause_save_and_sample_and_says_that_it_was(page: Page, site: Site) -> None:
    run = running(site.db, site.base)
    page.goto(f"{site.url}/train?run={run.id}")
    for asked, says in (
        ("Sample now", "Samples after this update"),
        ("Save now", "Saves after this update"),
        ("Pause", "Pauses after this update"),
    ):
        page.get_by_role("button", name=asked, exact=True).click()
        expect(page.get_by_role("button", name=says)).to_be_disabled()
    row = runs.get_run(site.db, run.id)
    assert row.pause_requested_at and row.save_requested_at and row.sample_requested_at
    page.get_by_role("button", name="Stop and save").click()
    expect(page.locator("#run .note").first).to_contain_text("stopping, saves first")


def test_the_log_is_opened_and_followed(page: Page, site: Site) -> None:
    run = running(site.db, site.base)
    log = site.db.home / "runs" / run.id / "log.txt"
    log.parent.mkdir(parents=True)
    log.write_text("".join(f"line {number}\n" for number in range(600)))
    page.goto(f"{site.url}/train?run={run.id}")
    page.get_by_role("button", name="Show the log").click()
    shown = page.locator("pre.log")
    expect(shown).to_contain_text("line 599")
    expect(shown).not_to_contain_text("line 99\n")
    with log.open("a") as file:
        file.write("and one more\n")
    expect(shown).to_contain_text("and one more")
    page.get_by_role("button", name="Hide the log").click()
    expect(shown).to_have_count(0)


def test_two_runs_are_overlaid_and_the_address_says_so(page: Page, site: Site) -> None:
    older = running(site.db, site.base, "first")
    runs.move(site.db, older.id, to="completed", from_states=("running",), attempt=1)
    newer = running(site.db, site.base, "second")
    page.goto(f"{site.url}/train?run={newer.id}")
    page.locator(f"[data-act=with][data-id='{older.id}']").click()
    expect(page.locator(".legend")).to_contain_text(title(older))
    expect(page).to_have_url(f"{site.url}/train?run={newer.id}&with={older.id}")
    expect(page.locator(".curve path.other").first).to_be_attached()
    page.reload()
    expect(page.locator(".legend")).to_contain_text(title(older))
    page.get_by_role("button", name=f"Take {title(older)} away").click()
    expect(page.locator(".legend")).to_have_count(0)


def test_a_run_is_branched_and_reproduced_from_its_page(page: Page, site: Site) -> None:
    run = running(site.db, site.base)
    page.goto(f"{site.url}/train?run={run.id}")
    page.get_by_role("button", name="Branch").click()
    expect(page.locator("#run .title")).to_contain_text("mine, from update 2")
    expect(page.locator(".lineage")).to_contain_text("mine, update 2")
    page.locator(f"#runs [data-act=open][data-id='{run.id}']").click()
    shows(page, run)
    page.get_by_role("button", name="Reproduce").click()
    expect(page.locator("#run .title")).to_contain_text("mine (again)")
    assert newest(site).config == run.config


def images(folder: Path) -> list[Path]:
    """Three images with their captions."""
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(png(40 * number))
        (folder / f"{number}.txt").write_text("portrait, smile")
    return sorted(folder.iterdir())


def test_images_are_dropped_and_two_stages_start_as_one_recipe(
    page: Page, site: Site, tmp_path: Path
) -> None:
    page.goto(f"{site.url}/train")
    page.get_by_label("My images first, then rewards").check()
    page.locator(".drop [name=name]").fill("faces")
    page.locator(".drop input[type=file]").set_input_files(images(tmp_path / "mine"))
    expect(page.locator("#dataset input")).to_have_value("faces · 3 images")
    expect(page.locator("#plan")).to_contain_text("60 + 2 updates")
    page.locator("#start-run").click()
    chain = page.locator(".chain li")
    expect(chain).to_have_count(2)
    expect(chain.first).to_have_attribute("aria-current", "step")
    second, first = runs.list_runs(site.db)[:2]
    shows(page, first)
    chain.nth(1).get_by_role("button").click()
    expect(page.locator("#run .sentence")).to_contain_text(f"Waits until run {first.number}")
    assert second.follows_id == first.id and first.config["algorithm"]["name"] == "sft"


def critical(page: Page) -> list[str]:
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{one['id']}: {node['target']}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("shade", ["light", "dark"])
def test_axe_finds_nothing_serious_on_any_step(page: Page, site: Site, shade: str) -> None:
    run = running(site.db, site.base)
    page.goto(f"{site.url}/train?run={run.id}")
    expect(page.locator(".curve")).to_have_count(2)
    page.evaluate("shade => document.body.classList.toggle('dark', shade === 'dark')", shade)
    page.wait_for_timeout(600)  # colours of buttons change over some time
    for number in range(1, 6):
        step(page, number)
        assert critical(page) == []


def test_a_phone_shows_all_of_it_within_its_width(browser: Browser, page: Page, site: Site) -> None:
    run = running(site.db, site.base)
    phone = browser.new_page(viewport={"width": 390, "height": 844})
    phone.goto(f"{site.url}/train?run={run.id}")
    expect(phone.locator(".through .now img")).to_have_count(2)
    for number in range(1, 6):
        phone.locator(f".steps [data-goto='{number}']").click()
        assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth")
    phone.close()


@pytest.mark.timeout(600)
def test_a_run_pauses_is_resumed_and_stopped_on_the_page(page: Page, studio: Studio) -> None:
    page.goto(f"{studio.url}/train?step=4")
    expect(page.locator("#plan")).to_contain_text("2 updates")
    for place, value in (("updates", "400"), ("train-group-size", "2")):
        number(page, place, value)
    if not studio.has_rewards:
        step(page, 3)
        for place, value in (("verifier", "0"), ("clip", "0"), ("quality", "0"), ("diversity", "1")):
            number(page, f"weight-{place}", value)
    page.keyboard.press("Control+Enter")
    run: Locator = page.locator(".headline[data-run]")
    expect(page.locator(".curve")).not_to_have_count(0, timeout=WORK_MS)
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(run).to_have_attribute("data-state", "paused", timeout=WORK_MS)
    expect(run).to_contain_text("saved at update")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Stop and save")).to_be_visible(timeout=WORK_MS)
    expect(run).to_have_attribute("data-state", "running", timeout=WORK_MS)
    page.get_by_role("button", name="Stop and save").click()
    expect(run).to_have_attribute("data-state", "stopped", timeout=WORK_MS)
    expect(page.locator(".runs.flat > div")).not_to_have_count(0)


def number(page: Page, place: str, value: str) -> None:
    field = page.locator(f"#{place} input")
    field.fill(value)
    field.press("Tab")

"""Comparing checkpoints as an artist does, by mouse and by keys alone; what is seen is there after a
reload."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from flowgrpo.config import SamplingConfig
from storage import checkpoints, groups, prompts, runs
from storage.engine import Database, open_database
from storage.groups import GroupView
from storage.models import Checkpoint
from tests.browser.test_axe import severe
from tests.storage.ready import ready
from tests.ui.conftest import finished_group
from tests.ui.serving import GRADIO_NOISE, web

pytestmark = GRADIO_NOISE

FAST = SamplingConfig(num_steps=8, guidance_scale=1.0).model_dump()
PROMPTS = ("portrait, buns", "portrait, smile")
NASTY = "portrait, ${alert(1)} `${alert(2)}` {{7*7}} <img src=x onerror=alert(3)> wistful"


@dataclass(frozen=True)
class Site:
    """A studio without an engine: a base and what was tuned on it, two images each on two prompts."""

    db: Database
    url: str
    base: Checkpoint
    tuned: Checkpoint
    made: dict[tuple[str, str], GroupView]

    def image(self, checkpoint: Checkpoint, prompt: int, seed: int) -> str:
        """The id of an image."""
        return self.made[checkpoint.id, PROMPTS[prompt]].images[seed].image.id

    def grid(self, *lines: str) -> str:
        """The address of the grid on these prompts, or of a prompt set."""
        said = "%0A".join(line.replace(" ", "+") for line in lines or PROMPTS)
        both = f"{self.base.id},{self.tuned.id}"
        return f"{self.url}/compare?checkpoints={both}&prompts={said}&seeds=7&images=2&steps=8&guidance=1"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Site]:
    db = open_database(ready(tmp_path_factory.mktemp("compare") / "home"))
    base = checkpoints.register_base(db, name="starter", source="nowhere", family="StableDiffusionXLPipeline")
    run = runs.create_run(
        db, name="r", owner_id="local", parent_checkpoint_id=base.id, config={"num_updates": 1}
    )
    runs.claim_run(db, host="h", boot_id="b")
    tuned = checkpoints.commit_checkpoint(
        db, run_id=run.id, attempt=1, update=60, name="run 3, update 60", path="p", sha256="0" * 64
    )
    made = {
        (one.id, prompt): finished_group(db, checkpoint=one, prompt=prompt, config=FAST)
        for one in (base, tuned)
        for prompt in PROMPTS
    }
    with web(db) as url:
        yield Site(db, url, base, tuned, made)
    db.close()


@pytest.fixture(autouse=True)
def _left(page: Page) -> Iterator[None]:
    """No page asks a server that is about to go."""
    yield
    page.goto("about:blank")


def cell(page: Page, image_id: str) -> Locator:
    return page.locator(f".cell[data-id='{image_id}']")


def shown(page: Page) -> list[str]:
    """Ids of the two images in the viewer."""
    found = page.locator(".viewer .pane img").evaluate_all("all => all.map(one => one.getAttribute('src'))")
    return [re.sub(r"/media/|\.png", "", one or "") for one in found]


def moved(page: Page) -> list[str]:
    """How the two images are zoomed and moved."""
    images = page.locator(".viewer .pane img")
    return [str(image.evaluate("one => getComputedStyle(one).transform")) for image in images.all()]


def test_a_pair_is_looked_at_by_keys_alone(page: Page, site: Site) -> None:
    page.goto(site.grid())
    first = cell(page, site.image(site.base, 0, 0))
    expect(page.locator(".cell img")).to_have_count(8)
    first.focus()
    for key in ("ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    expect(cell(page, site.image(site.tuned, 0, 1))).to_be_focused()
    page.keyboard.press("Enter")
    viewer = page.locator("dialog.viewer")
    expect(viewer).to_be_visible()
    assert shown(page) == [site.image(site.base, 0, 1), site.image(site.tuned, 0, 1)]
    expect(viewer.locator(".names")).to_contain_text("starter")
    expect(viewer.locator(".seen")).to_have_text("seed 8 · portrait, buns")
    over = viewer.locator(".pane.over")
    page.keyboard.press("3")
    expect(over).to_be_hidden()
    page.keyboard.down(" ")
    expect(over).to_be_visible()
    page.keyboard.up(" ")
    expect(over).to_be_hidden()
    page.keyboard.press("ArrowLeft")
    assert shown(page) == [site.image(site.base, 0, 0), site.image(site.tuned, 0, 0)]
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    expect(cell(page, site.image(site.tuned, 0, 0))).to_be_focused()


def test_both_images_are_zoomed_and_moved_together(page: Page, site: Site) -> None:
    page.goto(site.grid())
    cell(page, site.image(site.tuned, 1, 0)).click()
    stage = page.locator(".viewer .pair")
    page.keyboard.press("z")
    expect(page.locator(".viewer .zoom")).to_have_text("100%")
    page.keyboard.press("z")
    expect(page.locator(".viewer .zoom")).to_have_text("600%")
    whole = moved(page)
    box = stage.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 10, box["y"] + 10)
    page.mouse.wheel(0, -400)
    expect(stage).to_have_class(re.compile("moves"))
    near = moved(page)
    assert near[0] == near[1] != whole[0]
    page.mouse.down()
    page.mouse.move(box["x"] - 20, box["y"] - 20)
    page.mouse.up()
    dragged = moved(page)
    assert dragged[0] == dragged[1] != near[0]
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("2")
    assert moved(page)[0] == moved(page)[1]
    page.keyboard.press("0")
    assert moved(page) == whole


def test_any_two_images_come_together_by_holding_one(page: Page, site: Site) -> None:
    page.goto(site.grid())
    cell(page, site.image(site.tuned, 1, 1)).focus()
    page.keyboard.press(" ")
    expect(page.locator(".note.held")).to_contain_text("Held: run 3, update 60, seed 8.")
    expect(page.locator("dialog.viewer")).to_be_hidden()
    cell(page, site.image(site.base, 0, 0)).click()
    assert shown(page) == [site.image(site.tuned, 1, 1), site.image(site.base, 0, 0)]
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Let go").click()
    expect(page.locator(".note.held")).to_be_hidden()
    cell(page, site.image(site.tuned, 1, 1)).click(modifiers=["Shift"])
    expect(page.locator(".note.held")).to_be_visible()


def test_a_reload_shows_the_same_grid_and_the_same_pair(page: Page, site: Site) -> None:
    page.goto(site.grid())
    expect(page.locator(".cell img")).to_have_count(8)
    page.locator("#compare-prompts textarea").fill(PROMPTS[1])
    expect(page.locator(".cell img")).to_have_count(4)
    cell(page, site.image(site.tuned, 1, 0)).click()
    page.keyboard.press("2")
    pair = shown(page)
    expect(page).to_have_url(re.compile("view=side"))
    page.reload()
    expect(page.locator(".viewer .pair")).to_have_attribute("data-way", "side")
    assert shown(page) == pair
    expect(page.locator("#compare-prompts textarea")).to_have_value(PROMPTS[1])
    page.keyboard.press("Escape")
    expect(page).not_to_have_url(re.compile("picked="))
    page.reload()
    expect(page.locator(".cell img")).to_have_count(4)
    expect(page.locator("dialog.viewer")).to_be_hidden()


def test_missing_groups_are_asked_for_once_and_can_be_canceled(page: Page, site: Site) -> None:
    page.goto(site.grid(PROMPTS[0], "portrait, glasses"))
    expect(page.locator(".cell.none")).to_have_count(4)
    expect(page.get_by_role("button", name="Generate 2 missing groups")).to_be_visible()
    page.keyboard.press("Control+Enter")
    expect(page.locator(".work")).to_contain_text("2 of 4 groups still to come · Waiting: next in the queue")
    assert groups.queued_count(site.db) == 2
    page.reload()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("button", name="Generate 2 missing groups")).to_be_visible()
    assert groups.queued_count(site.db) == 0


def test_a_prompt_set_starts_a_comparison_and_stays_in_the_address(page: Page, site: Site) -> None:
    prompts.save_prompt_set(site.db, "faces", ["portrait, hat"], list(PROMPTS))
    page.goto(f"{site.url}/compare?seeds=7&images=2")
    expect(page.locator(".strip-of")).not_to_have_count(0)
    page.locator("#compare-set input").click()
    page.get_by_role("option", name="faces v1 · 2 held out").click()
    expect(page.locator(".cell img")).to_have_count(8)
    expect(page).to_have_url(re.compile("set="))
    page.reload()
    expect(page.locator("#compare-prompts textarea")).to_have_value("\n".join(PROMPTS))
    expect(page.locator(".cell img")).to_have_count(8)


def test_an_x_y_grid_is_kept_under_its_number_and_changed_into_a_new_one(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/compare?tab=axes&prompt=portrait,+buns&checkpoint={site.base.id}")
    page.locator("#axes-x input").click()
    page.get_by_role("option", name="Seed").click()
    expect(page.locator("#axes-x-values").get_by_role("textbox")).to_have_value("1-4")
    page.locator("#axes-x-values").get_by_role("textbox").fill("7, 8")
    page.locator("#axes-y input").click()
    page.get_by_role("option", name="Checkpoint").click()
    expect(page.locator(".axes .cell img")).to_have_count(4)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("h1.title")).to_have_text("Grid 1 · Seed × checkpoint")
    expect(page).to_have_url(re.compile("tab=axes&grid="))
    page.reload()
    cell(page, site.image(site.tuned, 0, 1)).click()
    assert shown(page) == [site.image(site.base, 0, 1), site.image(site.tuned, 0, 1)]
    page.keyboard.press("Escape")
    page.locator("#axes-x-values").get_by_role("textbox").fill("7-9")
    expect(page.locator("#axes .headline")).to_contain_text("changed from grid 1, not saved")
    page.get_by_role("button", name="Generate 2 missing images").click()
    expect(page.locator("h1.title")).to_have_text("Grid 2 · Seed × checkpoint")
    expect(page.locator(".work")).to_contain_text("2 of 6 images still to come")
    page.get_by_role("button", name="Cancel").click()
    page.locator(".grids a").nth(1).click()
    expect(page.locator("h1.title")).to_have_text("Grid 1 · Seed × checkpoint")
    page.get_by_role("button", name="Run again").click()
    expect(page.locator(".work")).to_contain_text("4 of 4 images still to come")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".axes .cell img")).to_have_count(4)


def test_a_grid_that_cannot_be_says_why_and_keeps_what_was_typed(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/compare?tab=axes&grid=nothing")
    expect(page.locator("#message")).to_contain_text("There is no saved grid with the id nothing")
    values = page.locator("#axes-x-values").get_by_role("textbox")
    values.fill("4, eight")
    expect(page.locator("#message")).to_contain_text(
        "Steps must be a whole number from 1 to 150, not “eight”."
    )
    expect(values).to_have_value("4, eight")


def test_words_that_are_a_script_are_shown_and_not_run(page: Page, site: Site) -> None:
    finished_group(site.db, checkpoint=site.base, prompt=NASTY, config=FAST)
    page.goto(site.grid())
    expect(page.locator(".cell img")).to_have_count(8)
    page.locator("#compare-prompts textarea").fill(NASTY)
    expect(page.locator("h2.prompt")).to_have_count(1)
    expect(page.locator("h2.prompt")).to_have_text(NASTY)
    page.locator(".cell[data-id]").first.click()
    expect(page.locator(".viewer .seen")).to_contain_text(NASTY)
    page.keyboard.press("Escape")
    page.goto(f"{site.url}/compare?tab=axes&x=prompt&x_values=a&y=none")
    expect(page.locator(".axes th")).to_have_text("a")
    page.locator("#axes-x-values").get_by_role("textbox").fill(NASTY)
    expect(page.locator(".axes th")).to_have_text(NASTY)
    page.locator("#axes-name").get_by_role("textbox").fill(NASTY)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("h1.title")).to_contain_text(NASTY)


@pytest.mark.parametrize("shade", ["light", "dark"])
def test_axe_finds_nothing_serious_in_the_tables_and_the_viewer(
    browser: Browser, site: Site, shade: Literal["light", "dark"]
) -> None:
    page = browser.new_page(color_scheme=shade, viewport={"width": 1440, "height": 900})
    for tab in ("grid", "axes"):
        page.goto(f"{site.grid(PROMPTS[0], 'portrait, glasses')}&tab={tab}&prompt=portrait,+buns")
        picked = page.locator(".cell[data-id]").first
        expect(picked).to_be_visible()
        picked.focus()
        page.keyboard.press(" ")
        assert severe(page) == []
        picked.click()
        expect(page.locator("dialog.viewer")).to_be_visible()
        assert severe(page) == []
    page.goto("about:blank")
    page.close()


@pytest.mark.parametrize("tab", ["grid", "axes"])
def test_no_tab_is_wider_than_a_phone(browser: Browser, site: Site, tab: str) -> None:
    phone = browser.new_page(viewport={"width": 390, "height": 844})
    phone.goto(f"{site.grid()}&tab={tab}&prompt=portrait,+buns&x=seed&x_values=7-12&y=steps&y_values=8")
    phone.locator(".cell[data-id]").first.click()
    for way in "123":
        phone.keyboard.press(way)
        assert phone.evaluate("document.querySelector('dialog.viewer').scrollWidth <= innerWidth")
    phone.keyboard.press("Escape")
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth")
    phone.goto("about:blank")
    phone.close()

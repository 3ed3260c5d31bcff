"""The Library in a browser: lists come in, searches stand in the address, boards fill, names run nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from storage import boards, catalog, checkpoints, prompts, scores
from storage.engine import Database, open_database
from storage.models import Checkpoint
from tests.storage.ready import ready
from tests.ui.conftest import finished_group
from tests.ui.serving import GRADIO_NOISE, web
from tests.ui.test_library import card

pytestmark = [*GRADIO_NOISE, pytest.mark.filterwarnings("ignore:The copy keyword is deprecated")]
NASTY = "<img src=x onerror=alert(1)> ${alert(2)} {{7*7}}"
TABS = ("images", "prompts", "checkpoints", "bases", "rewards", "datasets")


@dataclass(frozen=True)
class Site:
    """A studio without an engine, with some of everything."""

    db: Database
    url: str
    base: Checkpoint


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    db = open_database(ready(tmp_path_factory.mktemp("library") / "home"))
    base = checkpoints.register_base(db, name="starter", source="nowhere", family="StableDiffusionXLPipeline")
    for number in range(9):
        finished_group(db, [0.1] * 8, checkpoint=base, prompt="red hair" if number else "blue hair")
    told = card("aesthetic", notice="Research only.", notice_sha256="a" * 64)
    scores.publish_cards(db, {"aesthetic": told, "clip": card("clip")})
    with web(db) as url:
        yield Site(db, f"{url}/library", base)
    db.close()


def said(page: Page, words: str) -> None:
    expect(page.locator("#library-message")).to_contain_text(words)


def test_a_pasted_list_becomes_a_set_a_change_a_version_and_back_goes_back(page: Page, site: Site) -> None:
    page.goto(f"{site.url}?tab=prompts")
    page.locator("#import-list").click()
    page.locator("#list-text").fill("red fox --w 512\nblue bird\nRed  fox\ngreen tree\n# mine")
    page.get_by_role("button", name="Look first").click()
    said(page, "1 duplicate was left out: line 3.")
    said(page, "Nothing is saved yet.")
    page.get_by_role("button", name="Save").click()
    said(page, "The prompt set has no name")
    expect(page.locator("#list-text")).to_have_value(
        "red fox --w 512\nblue bird\nRed  fox\ngreen tree\n# mine"
    )
    page.locator("#list-name").fill("animals")
    page.get_by_role("button", name="Save").click()
    said(page, "animals is saved as version 1")
    first = page.url
    page.locator("#change-set").click()
    box = page.locator("#edit-train")
    box.fill(f"{box.input_value()}white owl\n")
    page.get_by_role("button", name="Save as version 2").click()
    expect(page.locator(".library h1")).to_have_text("animals")
    expect(page.locator(".facts-of")).to_contain_text("1 added")
    expect(page).not_to_have_url(first)
    page.get_by_role("link", name="Version 1").click()
    expect(page).to_have_url(first)
    expect(page.locator(".library")).to_contain_text("This is an older version")
    page.go_back()
    expect(page.locator(".library")).not_to_contain_text("This is an older version")
    page.reload()
    expect(page.locator(".facts-of")).to_contain_text("1 added")
    assert [row.version for row in prompts.versions_of(site.db, "animals")] == [2, 1]


def test_a_chosen_file_is_read_in_the_browser_and_a_bad_one_told_there(
    page: Page, site: Site, tmp_path: Path
) -> None:
    table, picture = tmp_path / "birds.csv", tmp_path / "birds.txt"
    table.write_text("prompt,split\nrobin,train\nwren,test\n", encoding="utf-8")
    picture.write_bytes(b"\x89PNG\xff\xfe\x00")
    page.goto(f"{site.url}?tab=prompts&new=1")
    page.locator("#list-file").set_input_files(picture)
    expect(page.locator("[data-file-said]")).to_contain_text("no UTF-8 text")
    page.locator("#list-file").set_input_files(table)
    expect(page.locator("#list-text")).to_have_value("prompt,split\nrobin,train\nwren,test\n")
    expect(page.locator("#list-name")).to_have_value("birds")
    page.get_by_label("As the list says").check()
    page.get_by_role("button", name="Save").click()
    said(page, "birds is saved as version 1: 1 to train on, 1 held out.")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download .jsonl").click()
    assert download.value.suggested_filename == "birds-1.jsonl"


def test_a_search_stands_in_the_address_pages_and_survives_a_reload(page: Page, site: Site) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(site.url)
    expect(page.locator(".wall figure")).to_have_count(60)
    page.locator("#f-q").fill("red")
    page.keyboard.press("Enter")
    expect(page.locator(".library .headline")).to_contain_text("64 match")
    expect(page).to_have_url(f"{site.url}?tab=images&q=red")
    page.locator("#next-page").click()
    expect(page.locator(".wall figure")).to_have_count(4)
    page.reload()
    expect(page.locator(".wall figure")).to_have_count(4)
    expect(page.locator("#f-q")).to_have_value("red")
    assert [url for url in asked if "/media/" in url and "/thumb/" not in url] == []
    page.locator(".wall a").first.click()
    expect(page.locator("dialog.detail")).to_be_visible()
    opened = page.url
    page.reload()
    expect(page.locator("dialog.detail")).to_be_visible()
    expect(page).to_have_url(opened)
    page.locator("#image-later").click()
    expect(page).not_to_have_url(opened)
    page.keyboard.press("Escape")
    expect(page.locator("dialog.detail")).to_have_count(0)
    assert "image=" not in page.url
    page.locator("#f-clear").click()
    expect(page.locator(".wall figure")).to_have_count(60)


def test_chosen_images_are_put_on_a_new_board_and_the_board_shows_them(page: Page, site: Site) -> None:
    page.goto(site.url)
    expect(page.get_by_role("button", name="Put on board")).to_be_disabled()
    for place in (0, 2):
        page.locator(".wall input[name=images]").nth(place).check()
    expect(page.locator("[data-chosen]")).to_have_text("2")
    page.locator("#new-board").fill(NASTY[:60])
    page.get_by_role("button", name="Put on board").click()
    said(page, f"2 put on {NASTY[:60].strip()}")
    (board,) = boards.list_boards(site.db)
    page.locator(f"#board-{board.board.id}").click()
    expect(page.locator(".wall figure")).to_have_count(2)
    expect(page.locator(".library h1")).to_have_text(board.board.name)


def test_what_is_typed_stays_while_the_page_redraws_itself(page: Page, site: Site) -> None:
    page.goto(f"{site.url}?tab=checkpoints&checkpoint={site.base.id}")
    page.locator("#new-name").fill("half a na")
    catalog.promote(site.db, site.base.id)
    expect(page.locator(".library .headline")).to_contain_text("candidate since")
    expect(page.locator("#new-name")).to_have_value("half a na")
    expect(page.locator("#new-name")).to_be_focused()
    catalog.promote(site.db, site.base.id, is_candidate=False)


def test_a_name_that_looks_like_code_runs_nowhere(page: Page, site: Site) -> None:
    made = prompts.save_prompt_set(site.db, NASTY, [NASTY], [])
    group = finished_group(site.db, [0.5], checkpoint=site.base, prompt=NASTY)
    for query in (
        "tab=prompts",
        f"tab=prompts&set={made.id}",
        f"tab=prompts&set={made.id}&edit=1",
        f"tab=images&image={group.images[0].image.id}",
    ):
        page.goto(f"{site.url}?{query}")
        expect(page.locator(".library")).to_contain_text("${alert(2)} {{7*7}}")
    assert page.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("shade", ["light", "dark"])
def test_axe_finds_nothing_serious_in_any_tab(browser: Browser, site: Site, shade: str) -> None:
    page = browser.new_page(color_scheme=shade)  # type: ignore[arg-type]
    made = prompts.list_prompt_sets(site.db)[0]
    queries = [f"tab={tab}" for tab in TABS]
    queries += ["tab=prompts&new=1", f"tab=prompts&set={made.id}", "tab=checkpoints&import=1"]
    queries += [f"tab=checkpoints&checkpoint={site.base.id}"]
    found: dict[str, list[str]] = {}
    for query in queries:
        page.goto(f"{site.url}?{query}")
        expect(page.locator(".library")).to_be_visible()
        violations = Axe().run(page).response["violations"]
        severe = [one for one in violations if one["impact"] in ("serious", "critical")]
        if severe:
            found[query] = [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in severe]
    page.close()
    assert found == {}


def test_no_tab_is_wider_than_a_phone(browser: Browser, site: Site) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    made = prompts.list_prompt_sets(site.db)[0]
    wide = []
    for query in [*(f"tab={tab}" for tab in TABS), "tab=prompts&new=1", f"tab=prompts&set={made.id}"]:
        page.goto(f"{site.url}?{query}")
        expect(page.locator(".library")).to_be_visible()
        if page.evaluate("document.documentElement.scrollWidth") > 390:
            wide.append(query)
    page.close()
    assert wide == []

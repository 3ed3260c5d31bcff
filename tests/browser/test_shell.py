"""What every page has: keys, the shade that was chosen, and what was typed before a reload."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from storage import checkpoints
from storage.engine import open_database
from tests.storage.ready import ready
from tests.ui.serving import GRADIO_NOISE, web

pytestmark = GRADIO_NOISE


@pytest.fixture
def site(page: Page, tmp_path: Path) -> Iterator[str]:
    db = open_database(ready(tmp_path / "home"))
    checkpoints.register_base(db, name="starter", source="nowhere", family="StableDiffusionXLPipeline")
    with web(db) as url:
        page.goto(url)
        expect(page.locator(".topbar .pill")).to_be_visible()
        yield url
        page.goto("about:blank")
    db.close()


def is_dark(page: Page) -> bool:
    return bool(page.evaluate("document.body.classList.contains('dark')"))


def test_the_shade_that_was_chosen_is_there_again_after_a_reload(page: Page, site: str) -> None:
    before = is_dark(page)
    page.locator("[data-act=shade]").click()
    page.reload()
    expect(page.locator(".topbar .pill")).to_be_visible()
    page.wait_for_function(f"document.body.classList.contains('dark') === {'false' if before else 'true'}")


def test_what_was_typed_is_there_again_after_a_reload(page: Page, site: str) -> None:
    page.locator("#prompt textarea").fill("portrait, words of mine")
    page.reload()
    expect(page.locator("#prompt textarea")).to_have_value("portrait, words of mine")


def test_a_new_visit_begins_with_a_fresh_form(page: Page, site: str) -> None:
    first = page.locator("#prompt textarea").input_value()
    page.locator("#prompt textarea").fill("portrait, words of mine")
    page.goto(f"{site}/rate")
    page.goto(site)
    expect(page.locator("#prompt textarea")).to_have_value(first)


def test_g_and_a_letter_go_to_a_page_but_not_while_somebody_types(page: Page, site: str) -> None:
    page.locator("#prompt textarea").fill("")
    page.keyboard.type("gl")
    expect(page.locator("#prompt textarea")).to_have_value("gl")
    assert page.url.rstrip("/") == site
    page.locator("#canvas").click(position={"x": 5, "y": 5})
    page.keyboard.type("gl")
    page.wait_for_url(f"{site}/library")


def test_a_question_mark_shows_the_keys_and_escape_closes_them(page: Page, site: str) -> None:
    page.locator("#canvas").click(position={"x": 5, "y": 5})
    page.keyboard.press("?")
    expect(page.locator("dialog.help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog.help")).to_be_hidden()

"""What an artist does in the Studio: ask, look, reuse, compare checkpoints, search; and come back later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image as Picture
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import Browser, Page, expect

from storage import boards, checkpoints, groups
from storage.engine import Database, open_database
from storage.models import Checkpoint
from tests.browser.conftest import Studio
from tests.storage.ready import ready
from tests.ui.conftest import finished_group
from tests.ui.serving import GRADIO_NOISE, web
from ui.services import Services

pytestmark = GRADIO_NOISE
WORK_MS = 280_000
NASTY = "portrait, ${alert(1)} {{7*7}} <img src=x onerror=alert(2)> wistful"
BOX = "dialog.lightbox.studio"


@dataclass(frozen=True)
class Site:
    """A studio without an engine."""

    db: Database
    url: str
    base: Checkpoint


@pytest.fixture
def site(page: Page, tmp_path: Path) -> Iterator[Site]:
    db = open_database(ready(tmp_path / "home"))
    base = checkpoints.register_base(db, name="starter", source="nowhere", family="StableDiffusionXLPipeline")
    with web(db) as url:
        yield Site(db, url, base)
        page.goto("about:blank")
    db.close()


def test_a_closed_tab_loses_nothing(browser: Browser, page: Page, studio: Studio) -> None:
    first = browser.new_page()
    first.goto(studio.url)
    expect(first.locator("#group [data-act=demo]")).to_be_visible()
    first.locator("#prompt textarea").fill("portrait, red hair, smile")
    for place, value in (("group-size", "3"), ("steps", "4"), ("guidance", "1")):
        first.locator(f"#{place} input").fill(value)
        first.locator(f"#{place} input").press("Tab")
    first.locator("#prompt textarea").press("Control+Enter")
    expect(first.locator("#queue-line li, #group [data-state=done]").first).to_be_visible()
    first.close()
    page.goto(studio.url)
    expect(page.locator(".strip[data-state=done] .tile img")).to_have_count(3, timeout=WORK_MS)
    page.locator(".tile").first.click()
    expect(page.locator(f"{BOX} .infotext pre")).to_contain_text("portrait, red hair, smile\nSteps: 4")


def test_the_lightbox_goes_by_keys_and_never_touches_the_form(page: Page, site: Site) -> None:
    finished_group(site.db, [0.1, 0.5, 0.9], checkpoint=site.base, prompt="portrait, buns")
    page.goto(site.url)
    page.locator("#prompt textarea").fill("words of mine")
    page.locator(".tile").nth(1).click()
    expect(page.locator(f"{BOX} h2").first).to_have_text("Image 2")
    expect(page.locator(f"{BOX} .facts")).to_contain_text("8")
    expect(page.locator(f"{BOX} table.scores")).to_contain_text("0.500 ±")
    page.keyboard.press("ArrowRight")
    expect(page.locator(f"{BOX} h2").first).to_have_text("Image 3")
    expect(page.locator(f"{BOX} [data-step=after]")).to_be_disabled()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(f"{BOX} h2").first).to_have_text("Image 2")
    page.reload()
    expect(page.locator(f"{BOX} h2").first).to_have_text("Image 2")
    page.keyboard.press("Escape")
    expect(page.locator(BOX)).to_have_count(0)
    expect(page.locator("#prompt textarea")).to_have_value("words of mine")
    assert "image=" not in page.url
    page.locator("#canvas").click(position={"x": 5, "y": 5})
    page.keyboard.press("/")
    expect(page.locator("#prompt textarea")).to_be_focused()


def test_reused_settings_are_taken_back_by_undo(page: Page, site: Site) -> None:
    finished_group(site.db, checkpoint=site.base, prompt="portrait, buns", seeds=[31, 32])
    page.goto(site.url)
    page.locator("#prompt textarea").fill("words of mine")
    page.get_by_role("button", name="Reuse settings").click()
    expect(page.locator("#prompt textarea")).to_have_value("portrait, buns")
    expect(page.locator("#message")).to_contain_text("Form replaced.")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#prompt textarea")).to_have_value("words of mine")
    page.locator(".tile").nth(1).click()
    page.locator(f"{BOX} [data-act=seed]").click()
    expect(page.locator("#seeds textarea, #seeds input").first).to_have_value("32")
    expect(page.locator(BOX)).to_have_count(0)


def test_several_checkpoints_and_chosen_prompts_are_asked_for_at_the_same_seeds(
    page: Page, site: Site
) -> None:
    with site.db.write() as session:
        tuned = Checkpoint(base_model_id=site.base.base_model_id, parent_id=site.base.id, name="tuned")
        tuned.update, tuned.path = 4, "runs/x"
        session.add(tuned)
    page.goto(f"{site.url}/?checkpoint={site.base.id},{tuned.id}")
    expect(page.locator("#plan")).to_contain_text("2 groups, 16 images")
    page.locator("#generate").click()
    expect(page.locator("#group .title")).to_have_text("2 groups")
    expect(page.locator(".row-of")).to_have_count(2)
    asked = Services(site.db).recent()
    assert asked[0].group.seeds == asked[1].group.seeds
    assert {one.checkpoint.name for one in asked} == {"starter", "tuned"}
    page.reload()
    expect(page.locator(".row-of")).to_have_count(2)
    expect(page.locator("#queue-line li")).to_have_count(2)
    page.get_by_role("button", name="Cancel all 2 of mine").click()
    expect(page.locator("#queue-line")).to_contain_text("Queue empty.")
    assert {one.group.state for one in Services(site.db).recent()} == {"canceled"}


def test_a_search_stands_in_the_address_and_a_board_is_part_of_it(page: Page, site: Site) -> None:
    views = [finished_group(site.db, checkpoint=site.base, prompt=f"portrait, number {n}") for n in range(14)]
    page.goto(site.url)
    expect(page.locator("#recent button[data-act=open]")).to_have_count(12)
    page.get_by_role("button", name="Older").click()
    expect(page.locator("#recent button[data-act=open]")).to_have_count(2)
    page.locator("[name=q]").fill("number 7")
    expect(page.locator("#recent button[data-act=open]")).to_have_count(1)
    assert "q=number%207" in page.url and "before" not in page.url
    page.reload()
    expect(page.locator("#recent .what")).to_have_count(1)
    expect(page.locator("#recent .what")).to_have_text("portrait, number 7")
    expect(page.locator("[name=q]")).to_have_value("number 7")
    page.locator("#group .tile").first.click()
    page.locator(f"{BOX} [name=board]").fill("For Anna")
    page.locator(f"{BOX} [name=board]").press("Enter")
    expect(page.locator(f"{BOX} .boards [aria-pressed=true]")).to_have_text("For Anna")
    board = boards.list_boards(site.db)[0].board
    assert boards.boards_of(site.db, [views[-1].images[0].image.id])
    page.goto(f"{site.url}/?board={board.id}")
    expect(page.locator("#recent .what")).to_have_count(1)
    expect(page.locator("#recent .what")).to_have_text("portrait, number 13")


def test_scripts_in_prompts_and_names_are_words_in_every_place(page: Page, site: Site) -> None:
    view = finished_group(site.db, checkpoint=site.base, prompt=NASTY)
    board = boards.create_board(site.db, "<img src=x onerror=alert(3)>", "local")
    boards.add_images(site.db, board.id, [view.images[0].image.id])
    groups.request_group(
        site.db, prompt=NASTY, checkpoint_id=site.base.id, config=view.group.config, seeds=[1]
    )
    page.goto(f"{site.url}/?group={view.group.id}&image={view.images[0].image.id}")
    expect(page.locator(f"{BOX} .prompt")).to_have_text(NASTY)
    expect(page.locator(f"{BOX} .boards")).to_have_text("<img src=x onerror=alert(3)>")
    page.keyboard.press("Escape")
    expect(page.locator("#queue-line .what")).to_have_text(NASTY)
    expect(page.locator("#recent .what").last).to_have_text(NASTY)
    assert page.locator("img[src=x]").count() == 0


def test_the_studio_is_usable_on_a_phone(browser: Browser, page: Page, site: Site) -> None:
    finished_group(site.db, [0.1, 0.5], checkpoint=site.base)
    phone = browser.new_page(viewport={"width": 390, "height": 844})
    phone.goto(site.url)
    phone.locator("#group .tile").first.click()
    expect(phone.locator(BOX)).to_be_visible()
    phone.locator(f"{BOX} [data-step=after]").click()
    expect(phone.locator(f"{BOX} h2").first).to_have_text("Image 2")
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth")
    phone.locator(f"{BOX} [data-act=close]").click()
    expect(phone.locator(BOX)).to_have_count(0)
    phone.close()


def test_the_settings_of_an_image_are_taken_over_from_its_file_or_by_dropping_it(
    page: Page, site: Site, tmp_path: Path
) -> None:
    image = tmp_path / "made elsewhere.png"
    said = PngInfo()
    said.add_text(
        "parameters", "blue hair\nSteps: 28, Sampler: DPM++ 2M, CFG scale: 4.5, Seed: 77, Size: 96x128"
    )
    Picture.new("RGB", (96, 128)).save(image, pnginfo=said)
    page.goto(site.url)
    prompt, steps = page.locator("#prompt textarea"), page.locator("#steps input")
    before = prompt.input_value()
    page.get_by_label("Settings from an image").set_input_files(image)
    expect(prompt).to_have_value("blue hair")
    expect(steps).to_have_value("28")
    expect(page.locator("#seeds textarea, #seeds input").first).to_have_value("77")
    expect(page.locator("#message")).to_contain_text("Not taken over: Sampler DPM++ 2M.")
    page.get_by_role("button", name="Undo").click()
    expect(prompt).to_have_value(before)
    drop(page, image.read_bytes())
    expect(prompt).to_have_value("blue hair")
    drop(page, b"GIF89a")
    expect(page.locator(".recall output")).to_contain_text("cannot be read as an image")
    expect(prompt).to_have_value("blue hair")


def drop(page: Page, content: bytes) -> None:
    """Drops a file on the form, as from another window."""
    held = page.evaluate_handle(
        """bytes => { const held = new DataTransfer();
        held.items.add(new File([new Uint8Array(bytes)], 'a.png')); return held; }""",
        list(content),
    )
    page.dispatch_event("#prompt", "drop", {"dataTransfer": held})

"""Blind A/B from start to result: two clicks, two people by keyboard, undo, reveal, no vote after it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from flowgrpo.runs import judging
from storage import blind, jobs
from storage.engine import Database, open_database
from storage.models import User
from tests.browser.test_blind_leaks import READY
from tests.storage.ready import ready
from tests.ui.blinded import PROMPTS, SEEDS, Blinded, blinded, is_tuned, judge_all
from tests.ui.serving import GRADIO_NOISE, web

pytestmark = GRADIO_NOISE
PAIRS = len(PROMPTS) * len(SEEDS)


@dataclass(frozen=True)
class Studio:
    """A studio with two checkpoints whose images are all there."""

    db: Database
    url: str
    data: Blinded


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    db = open_database(ready(tmp_path / "home"))
    data = blinded(db)
    with web(db) as url:
        yield Studio(db, url, data)
    db.close()


def browser_of(browser: Browser, studio: Studio, person: User) -> BrowserContext:
    """A browser where somebody sits."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.add_cookies([{"name": "studio-person", "value": person.id, "url": studio.url}])
    return context


def choose(db: Database, page: Page, person: User, *, tuned: bool = True) -> None:
    """Prefers, by key, the image of one checkpoint in the pair on the card."""
    shown = page.locator(".blind").get_attribute("data-pair") or ""
    image = blind.image_of(db, shown, "left", person.id)
    page.keyboard.press("a" if is_tuned(db, image.id) == tuned else "d")


def progress(page: Page) -> Locator:
    return page.locator(".foot span").first


def type_prompts(page: Page, *prompts: str) -> None:
    page.locator("#blind-prompts textarea").fill("\n".join(prompts))
    page.locator("#blind-images input").fill("2")
    page.locator("#blind-images input").press("Tab")


def type_size(page: Page) -> None:
    for field, text in (("seeds", ", ".join(map(str, SEEDS))), ("width", "64"), ("height", "64")):
        box = page.locator(f"#blind-{field} input, #blind-{field} textarea").first
        box.fill(text)
        expect(box).to_have_value(text)


def test_two_people_judge_by_keyboard_and_the_reveal_ends_it_for_both(
    browser: Browser, page: Page, studio: Studio
) -> None:
    db, data = studio.db, studio.data
    page.goto(f"{studio.url}/compare?tab=blind")
    expect(page.locator("#blind-plan")).to_contain_text("pairs")
    page.get_by_role("button", name="Seeds, negative prompt and size").click()
    type_prompts(page, *PROMPTS)
    expect(page.locator("#blind-plan")).to_contain_text(f"{PAIRS} pairs")  # what was folded away is drawn now
    type_size(page)
    expect(page.locator("#blind-plan")).to_contain_text("All 12 images are there.")
    page.get_by_role("button", name="Start blind A/B").click()
    judge = page.get_by_role("link", name=f"Judge {PAIRS} pairs").first
    expect(judge).to_be_visible()
    (test,) = blind.list_tests(db)
    assert page.url.endswith(f"?tab=blind&test={test.id}")

    anns, beas = browser_of(browser, studio, data.ann), browser_of(browser, studio, data.bea)
    ann, bea = anns.new_page(), beas.new_page()
    for one in (ann, bea):
        one.goto(f"{studio.url}/blind?test={test.id}")
    for done in range(PAIRS):
        for one, person in ((ann, data.ann), (bea, data.bea)):
            if done == PAIRS - 1 and one is bea:
                continue  # Bea leaves her last pair
            expect(one.locator(READY)).to_be_visible()
            choose(db, one, person)
            expect(progress(one) if done < PAIRS - 1 else one.locator("h1")).to_contain_text(
                f"{done + 1} of {PAIRS} pairs" if done < PAIRS - 1 else f"All {PAIRS} pairs judged"
            )
    ann.keyboard.press("u")
    expect(progress(ann)).to_have_text(f"{PAIRS - 1} of {PAIRS} pairs")
    expect(ann.locator(READY)).to_be_visible()
    choose(db, ann, data.ann, tuned=False)
    expect(ann.locator("h1")).to_have_text(f"All {PAIRS} pairs judged")
    expect(ann.locator("[data-do=reveal]")).to_have_count(0)  # annotators end no test

    expect(page.locator("#blind-tests")).to_contain_text(f"Ann {PAIRS}/{PAIRS}")
    page.locator(".sure summary").click()
    page.get_by_role("button", name="Reveal and end the test").click()
    expect(page.locator(".duel")).to_contain_text("Secret tuned 12 preferred 91%")  # 10 of 11
    expect(page.locator(".duel")).to_contain_text("11 votes, 3 prompts")
    expect(bea.locator(".result")).to_contain_text("Secret tuned 12 preferred 91%")
    expect(ann.locator(".result")).to_contain_text("Secret tuned 12 preferred 91%")
    assert blind.counts(db, test.id) == (11, PAIRS)
    anns.close()
    beas.close()
    page.goto("about:blank")


def test_a_vote_after_the_reveal_is_refused_with_a_sentence_and_counts_nothing(
    browser: Browser, studio: Studio
) -> None:
    test = studio.data.start()
    context = browser_of(browser, studio, studio.data.ann)
    page = context.new_page()
    page.goto(f"{studio.url}/blind?test={test.id}")
    expect(page.locator(READY)).to_be_visible()
    blind.reveal(studio.db, test.id)
    page.keyboard.press("a")
    expect(page.locator(".result, .sentence").first).to_be_visible()
    assert blind.counts(studio.db, test.id)[0] == 0
    context.close()


def test_space_flips_and_z_zooms_without_a_word_of_which_is_which(page: Page, studio: Studio) -> None:
    test = studio.data.start()
    page.goto(f"{studio.url}/blind?test={test.id}")
    expect(page.locator(READY)).to_be_visible()
    over, own = page.locator("img.over"), page.locator("img.own").first
    page.keyboard.down("Space")
    expect(over).to_be_visible()
    expect(own).not_to_be_visible()
    page.keyboard.up("Space")
    expect(own).to_be_visible()
    page.keyboard.press("z")
    expect(page.locator(".sides.zoom")).to_be_visible()
    assert blind.counts(studio.db, test.id)[0] == 0
    page.keyboard.press("?")
    expect(page.locator("dialog.help")).to_contain_text("neither is any good")
    page.goto("about:blank")


def test_a_missing_image_makes_the_start_a_job_that_a_closed_tab_does_not_end(
    page: Page, studio: Studio
) -> None:
    page.goto(f"{studio.url}/compare?tab=blind")
    type_prompts(page, "portrait, a prompt that nobody drew")
    expect(page.locator("#blind-plan")).to_contain_text("4 of 4 images are not drawn yet.")
    page.get_by_role("button", name="Start blind A/B").click()
    expect(page.locator(".of-test")).to_contain_text("Next in the queue.")
    address = page.url
    page.goto("about:blank")
    job = jobs.claim_job(studio.db, "w")
    assert job is not None
    jobs.report_progress(studio.db, job.id, "drawing Secret base 9, 8 steps", 1, 4)
    page.goto(address)
    expect(page.locator(".of-test")).to_contain_text("1 of 4 images")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".of-test")).to_contain_text("The drawing was canceled. What was drawn is kept.")
    assert jobs.get_job(studio.db, job.id).state == "canceled"
    page.goto("about:blank")


def test_the_leaderboard_says_what_to_do_and_then_what_the_votes_say(page: Page, studio: Studio) -> None:
    db = studio.db
    page.goto(f"{studio.url}/compare?tab=leaderboard")
    expect(page.locator(".board .empty")).to_contain_text("No comparisons yet.")
    expect(page.locator(".board .empty")).to_contain_text("20 blind votes give a first ranking.")
    test = studio.data.start()
    judge_all(db, test, studio.data.ann)
    blind.reveal(db, test.id)
    expect(page.locator(".board")).to_contain_text("New votes wait to be counted.")
    job = jobs.claim_job(db, "w")
    assert job is not None and job.kind == "leaderboard"
    jobs.finish_job(db, job.id, judging.board(db, None))
    first = page.locator(".ranks tbody tr").first
    expect(first).to_contain_text("Secret tuned 12")
    expect(first).to_contain_text("preliminary, under 50 votes")
    expect(page.locator(".matrix tbody tr").first).to_contain_text("100%6 votes")
    page.goto("about:blank")


def test_judging_on_a_phone_takes_one_tap_a_pair_and_no_sideways_scrolling(
    browser: Browser, studio: Studio
) -> None:
    test = studio.data.start()
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    page = context.new_page()
    page.goto(f"{studio.url}/blind?test={test.id}")
    expect(page.locator(READY)).to_be_visible()
    page.locator("[data-answer=right]").tap()
    expect(progress(page)).to_have_text(f"1 of {PAIRS} pairs")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()

"""An artist's day on the starter, start to end, with the engine killed, the tab closed and the web restarted.

The flow of product.md 4.2: ask, look, reuse, compare, judge blind, take the winner elsewhere.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.interrupting import NEEDS_STARTER, WORK_MS, asks, kill_the_engine, number
from tests.browser.test_blind_leaks import READY
from tests.runs.helpers import wait_for
from tests.served import free_port, served

pytestmark = [NEEDS_STARTER, pytest.mark.slow]
PROMPTS = ("portrait, buns", "portrait, smile")
BOX = "dialog.lightbox.studio"


@pytest.mark.timeout(1200)
def test_an_artist_draws_looks_compares_judges_and_exports_whatever_ends_on_the_way(
    browser: Browser, page: Page, tmp_path: Path
) -> None:
    home, port = tmp_path / "home", free_port()
    with served(home, tmp_path / "log.txt", port=port) as web:
        draw(page, web.url, home)
        look(page)
        base, tuned = learned(web.url)
        table = leave_comparison(browser, web.url, base, tuned)
        page.goto(table)
        expect(page.locator(".cell")).to_have_count(8)
        web.process.kill()
    with served(home, tmp_path / "again.txt", port=port) as web:
        expect(page.locator(".cell img")).to_have_count(8, timeout=WORK_MS)
        look_at_two(page)
        judge(browser, page, web.url, (base, tuned))
        export(page, web.url, tuned)
        page.goto("about:blank")


def draw(page: Page, url: str, home: Path) -> None:
    """An empty studio says what to do; tiles come one by one, whatever becomes of the engine."""
    page.goto(url)
    expect(page.locator("#group [data-act=demo]")).to_be_visible()
    page.locator("#prompt textarea").fill("portrait, red hair, smile")
    number(page, "steps", "40")
    page.locator("#prompt textarea").press("Control+Enter")
    expect(page.locator("#queue-line li, .strip").first).to_be_visible()
    kill_the_engine(home)
    expect(page.locator(".strip[data-state=done] .tile img")).to_have_count(8, timeout=WORK_MS)


def look(page: Page) -> None:
    """Details leave the form alone; reuse replaces it, and can be undone."""
    page.locator("#prompt textarea").fill("words of mine")
    expect(page.locator(".tile .bar").first).to_be_visible(timeout=WORK_MS)
    page.locator(".tile").first.click()
    expect(page.locator(f"{BOX} table.scores")).to_contain_text("±")
    expect(page.locator(f"{BOX} .infotext pre")).to_contain_text("portrait, red hair, smile\nSteps: 40")
    page.keyboard.press("Escape")
    expect(page.locator("#prompt textarea")).to_have_value("words of mine")
    page.get_by_role("button", name="Reuse settings").click()
    expect(page.locator("#prompt textarea")).to_have_value("portrait, red hair, smile")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#prompt textarea")).to_have_value("words of mine")


def learned(url: str) -> tuple[str, str]:
    """Ids of the base and of what a run of two updates made of it."""
    base = asks(url, "list_checkpoints")[0]["id"]
    asks(url, "start_run", checkpoint=base, prompts=list(PROMPTS), preset="smoke", num_updates=2)

    def tuned() -> list[str]:
        return [one["id"] for one in asks(url, "list_checkpoints") if one["id"] != base]

    return base, wait_for(tuned, seconds=WORK_MS / 1000, what="a tuned checkpoint", every=1)[-1]


def leave_comparison(browser: Browser, url: str, base: str, tuned: str) -> str:
    """Asks for the missing images of a table in a tab that is closed at once; the table's address."""
    lines = "%0A".join(line.replace(" ", "+") for line in PROMPTS)
    table = f"{url}/compare?checkpoints={base},{tuned}&prompts={lines}&seeds=7&images=2&steps=30&guidance=1"
    tab = browser.new_page()
    tab.goto(table)
    missing = tab.get_by_role("button", name=re.compile("Generate 4 missing groups .about"))
    expect(missing).to_be_visible()
    missing.click()
    expect(tab.locator(".work")).to_contain_text("of 4 groups still to come")
    tab.close()
    return table


def look_at_two(page: Page) -> None:
    page.locator(".cell[data-id]").nth(3).click()
    expect(page.locator(".viewer .pane img")).to_have_count(2)
    page.locator(".viewer .cut").fill("20")
    page.keyboard.press("3")
    over = page.locator(".viewer .pane.over")
    expect(over).to_be_hidden()
    page.keyboard.down(" ")
    expect(over).to_be_visible()
    page.keyboard.up(" ")
    expect(over).to_be_hidden()
    page.keyboard.press("z")
    expect(page.locator(".viewer .zoom")).to_have_text("100%")
    page.keyboard.press("Escape")


def judge(browser: Browser, page: Page, url: str, both: tuple[str, str]) -> None:
    """A blind test by keys; the tab is closed after the first pair."""
    page.goto(f"{url}/compare?tab=blind&checkpoints={','.join(both)}")
    expect(page.locator("#blind-plan")).to_contain_text("pairs")
    page.locator("#blind-prompts textarea").fill("\n".join(PROMPTS))
    number(page, "blind-images", "2")
    expect(page.locator("#blind-plan")).to_contain_text("4 pairs")
    page.get_by_role("button", name="Start blind A/B").click()
    link = page.get_by_role("link", name="Judge 4 pairs").first
    expect(link).to_be_visible(timeout=WORK_MS)
    address = url + (link.get_attribute("href") or "")
    for keys in ("a", "dta"):
        tab = browser.new_page()
        tab.goto(address)
        for key in keys:
            card = tab.locator(".blind[data-pair]")
            expect(tab.locator(READY)).to_be_visible()
            pair = card.get_attribute("data-pair") or ""
            tab.keyboard.press(key)
            expect(tab.locator(f".blind[data-pair='{pair}']")).to_have_count(0)
        tab.close()
    expect(page.locator("#blind-tests")).to_contain_text("4 votes")
    page.locator(".sure summary").click()
    page.get_by_role("button", name="Reveal and end the test").click()
    expect(page.locator(".duel")).to_contain_text("preferred")
    expect(page.locator(".duel")).to_contain_text("4 votes, 2 prompts")


def export(page: Page, url: str, tuned: str) -> None:
    page.goto(f"{url}/library?tab=checkpoints&checkpoint={tuned}")
    page.get_by_role("button", name="Write the file").first.click()
    expect(page.get_by_role("link", name=re.compile("Download")).first).to_be_visible(timeout=WORK_MS)

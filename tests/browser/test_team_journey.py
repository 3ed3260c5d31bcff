"""A small team on the starter, start to end: people and overlap, a run in five steps, a trainer that dies, a
tab that is closed, a web that starts again, the blind test against the parent, the candidate, once more.
The flow of product.md 4.4.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.interrupting import NEEDS_STARTER, WORK_MS, asks, kill_the_trainer, number
from tests.browser.test_blind_leaks import READY
from tests.runs.helpers import wait_for
from tests.served import free_port, served

pytestmark = [NEEDS_STARTER, pytest.mark.slow]


@pytest.mark.timeout(1200)
def test_a_team_sets_itself_up_trains_and_promotes_whatever_ends_on_the_way(
    browser: Browser, page: Page, tmp_path: Path
) -> None:
    home, port = tmp_path / "home", free_port()
    with served(home, tmp_path / "log.txt", port=port) as web:
        people(page, web.url)
        run = start(page, web.url)
        crash_and_resume(page, web.url, home, run)
        page.goto("about:blank")  # the tab is closed
        seen = browser.new_page()
        seen.goto(f"{web.url}/train?run={run}")
        expect(headline(seen)).to_have_attribute("data-state", "running", timeout=WORK_MS)
        web.process.kill()
    with served(home, tmp_path / "again.txt", port=port) as web:
        before = update_of(web.url, run)
        wait_for(
            lambda: update_of(web.url, run) > before, seconds=240, what="an update after the restart", every=1
        )
        stop(seen)
        seen.close()
        candidate(page, web.url, run)
        once_more(page, web.url, run)
        judged(page, web.url)
        page.goto("about:blank")


def headline(page: Page) -> Locator:
    return page.locator(".headline[data-run]")


def update_of(url: str, run: str) -> int:
    return int(asks(url, "get_run", run_id=run)["update"])


def people(page: Page, url: str) -> None:
    """An admin adds a trainer and says how many rate a group; the trainer takes the seat."""
    page.goto(f"{url}/team?tab=people")
    for name, role in (("Ann", "annotator"), ("Tom", "trainer")):
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_label("Role").first.select_option(role)
        page.get_by_role("button", name="Add").click()
        expect(page.locator("#team-message")).to_contain_text(f"{name} is here now, as {role}.")
    page.goto(f"{url}/team?tab=assignment")
    page.get_by_label("Groups that several people rate").fill("15")
    page.get_by_label("People for such a group").fill("2")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#team-message")).to_contain_text("Saved.")
    sits(page, "Tom")


def sits(page: Page, name: str) -> None:
    page.locator(".who summary").click()
    page.locator(".who").get_by_role("button", name=re.compile(f"^{name}")).click()
    expect(page.locator(".who summary")).to_have_text(name)


def start(page: Page, url: str) -> str:
    """The five steps; the id of the run."""
    page.goto(f"{url}/train")
    expect(page.locator("#plan")).to_contain_text("2 updates")
    for step in (2, 3, 4):
        page.get_by_role("button", name="Next").click()
        expect(page).to_have_url(f"{url}/train?step={step}")
    for place, value in (("updates", "400"), ("train-group-size", "2")):
        number(page, place, value)
    page.get_by_role("button", name="Next").click()
    expect(page.locator(".checks li")).not_to_have_count(0)
    page.locator("#start-run").click()
    expect(headline(page)).to_contain_text("of 400", timeout=WORK_MS)
    expect(page.locator(".curve")).not_to_have_count(0, timeout=WORK_MS)
    return headline(page).get_attribute("data-run") or ""


def crash_and_resume(page: Page, url: str, home: Path, run: str) -> None:
    """A save, a crash, one click."""
    page.get_by_role("button", name="Save now").click()
    expect(page.locator(".runs.flat > div")).not_to_have_count(0, timeout=WORK_MS)
    kill_the_trainer(home, run)
    expect(headline(page)).to_have_attribute("data-state", re.compile("lost|failed"), timeout=WORK_MS)
    expect(page.locator("#run .sentence[role=alert]").first).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    expect(headline(page)).to_have_attribute("data-state", "running", timeout=WORK_MS)


def stop(page: Page) -> None:
    page.get_by_role("button", name="Stop and save").click()
    expect(headline(page)).to_have_attribute("data-state", "stopped", timeout=WORK_MS)
    expect(page.locator(".lineage")).to_contain_text("starter")


def candidate(page: Page, url: str, run: str) -> None:
    """What the run made becomes the candidate of its base."""
    page.goto(f"{url}/library?tab=checkpoints")
    page.locator("a[href*='checkpoint=']").filter(has_text=re.compile("update")).first.click()
    page.get_by_role("button", name="Make it the candidate").click()
    expect(page.locator("body")).to_contain_text("is the candidate of its base.")


def once_more(page: Page, url: str, run: str) -> None:
    page.goto(f"{url}/train?run={run}")
    page.get_by_role("button", name="Reproduce").click()
    expect(page.locator("#run .title")).to_contain_text("(again)")
    page.get_by_role("button", name=re.compile("Cancel|Stop and save")).first.click()
    expect(headline(page)).to_have_attribute("data-state", re.compile("canceled|stopped"), timeout=WORK_MS)


def judged(page: Page, url: str) -> None:
    """A run that is complete is before the annotator by itself, who judges it without knowing what it is."""
    base = asks(url, "list_checkpoints")[0]["id"]
    fields = {"prompts": ["portrait, smile"], "held_out": ["portrait, buns"], "preset": "smoke"}
    asks(url, "start_run", checkpoint=base, num_updates=2, **fields)
    sits(page, "Ann")
    page.goto(f"{url}/blind")
    page.get_by_role("link", name=re.compile("Judge")).first.click(timeout=WORK_MS)
    for _ in range(2):
        expect(page.locator(READY)).to_be_visible(timeout=WORK_MS)
        pair = page.locator(".blind").get_attribute("data-pair") or ""
        page.keyboard.press("a")
        expect(page.locator(f".blind[data-pair='{pair}']")).to_have_count(0)
    expect(page.locator("h1")).to_contain_text("All 2 pairs judged")

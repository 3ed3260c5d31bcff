"""An annotator's day on the starter by keyboard alone, while the engine is killed, the tab closed and the web
restarted. The flow of product.md 4.3.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from storage import groups, snapshots
from storage.engine import open_database
from tests.browser.interrupting import NEEDS_STARTER, WORK_MS, asks, kill_the_engine
from tests.served import free_port, served

pytestmark = [NEEDS_STARTER, pytest.mark.slow]
CARD = ".card[data-task]"


def ask(url: str, steps: int) -> str:
    """The id of a new group of four images."""
    base = asks(url, "list_checkpoints")[0]["id"]
    fields = {"prompt": "portrait, buns", "group_size": 4, "num_steps": steps}
    made = asks(url, "generate_group", checkpoint=base, **fields)
    return str(made["id"])


@pytest.mark.timeout(900)
def test_an_annotator_rates_what_comes_by_keys_whatever_ends_on_the_way(
    browser: Browser, page: Page, tmp_path: Path
) -> None:
    home, port = tmp_path / "home", free_port()
    with served(home, tmp_path / "log.txt", port=port) as web:
        page.goto(f"{web.url}/rate")
        expect(page.locator(".empty")).to_contain_text("Nothing to rate")
        page.keyboard.press("Escape")  # the guidelines of a first visit
        first, second = ask(web.url, 4), ask(web.url, 60)
        expect(page.locator(CARD)).to_have_attribute("data-task", first, timeout=WORK_MS)
        for key in ("2", "Shift+3", "Enter"):
            page.keyboard.press(key)
        expect(page.locator(".empty")).to_contain_text("You have rated 1 group.")
        kill_the_engine(home)
        expect(page.locator(CARD)).to_have_attribute("data-task", second, timeout=WORK_MS)
        page.keyboard.press("1")
        page.goto("about:blank")  # the tab is closed before anything is sent
        page = browser.new_page()
        page.goto(f"{web.url}/rate")
        expect(page.locator(CARD)).to_have_attribute("data-task", second)
        page.keyboard.press("4")
        expect(page.locator(".choice.best")).to_have_count(1)
        web.process.kill()
        web.process.wait(30)
        page.keyboard.press("Enter")
    with served(home, tmp_path / "again.txt", port=port) as web:
        expect(page.locator(".saved")).to_have_text("", timeout=WORK_MS)
        expect(page.locator(".choice.best")).to_have_count(1)
        page.keyboard.press("Enter")
        expect(page.locator(".empty")).to_contain_text("You have rated 2 groups.")
        third = ask(web.url, 4)
        expect(page.locator(CARD)).to_have_attribute("data-task", third, timeout=WORK_MS)
        page.keyboard.press("s")
        page.keyboard.press("2")
        expect(page.locator(".empty")).to_contain_text("Nothing to rate")
        page.keyboard.press("u")
        expect(page.locator(CARD)).to_have_attribute("data-task", third)
        page.keyboard.press("3")
        page.keyboard.press("Enter")
        expect(page.locator(".empty")).to_contain_text("You have rated 3 groups.")
        page.close()
    db = open_database(home)
    said = {vote.group_id: vote.image_id for vote in snapshots.standing_votes(db)}
    for group, place in ((first, 1), (second, 3), (third, 2)):
        assert said.pop(group) == groups.get_group(db, group).images[place].image.id
    assert not said
    db.close()

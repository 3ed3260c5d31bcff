"""Whatever somebody writes, every page shows it as text: nothing of it ever runs or becomes an element."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Dialog, Page, expect

from storage.engine import open_database
from tests.browser.poisoned import MARK, poison
from tests.storage.ready import ready
from tests.ui.serving import GRADIO_NOISE, web

pytestmark = GRADIO_NOISE
PAGES = (
    "/",
    "/?group={group}",
    "/rate",
    "/compare",
    "/compare?group={group}",
    "/train",
    "/train?run={run}",
    "/compare?tab=axes",
    "/compare?tab=blind",
    "/compare?tab=leaderboard",
    "/compare?tab=evaluations",
    "/blind",
    "/library?tab=images",
    "/library?tab=prompts",
    "/library?tab=checkpoints&checkpoint={checkpoint}",
    "/library?tab=bases",
    "/library?tab=rewards",
    "/library?tab=datasets",
    "/team",
    "/team?tab=assignment",
    "/team?tab=agreement",
    "/team?tab=quality",
    "/team?tab=audit",
    "/team?tab=storage",
)


@dataclass(frozen=True)
class Site:
    """A poisoned studio: its address, and the ids that its addresses name."""

    url: str
    ids: dict[str, str]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    db = open_database(ready(tmp_path_factory.mktemp("xss") / "home"))
    ids = poison(db)
    with web(db) as url:
        yield Site(url, ids)
    db.close()


def ran(page: Page) -> object:
    """What an attack that ran has left; None when none did."""
    return page.evaluate(f"window.{MARK} ?? null")


def elements(page: Page) -> int:
    """Elements that only an attack can have made."""
    found = page.locator(
        "img[src=x], iframe[srcdoc], svg[onload], [onerror], [ontoggle], [onmouseover], [onfocus], "
        f"[onbegin], object, embed, base[href^=javascript], [formaction], meta[content*=javascript], #{MARK}"
    )
    links = page.locator("a[href^='javascript:']")
    return found.count() + links.count()


def opened(browser: Browser, site: Site, address: str) -> tuple[object, int, list[str]]:
    """What of the attacks ran, became an element or opened a dialog on a page."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    dialogs: list[str] = []

    def dismissed(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismissed)
    page.goto(site.url + address.format(**site.ids))
    expect(page.locator("[data-act=shade]").first).to_be_visible()
    page.wait_for_timeout(1500)  # what load handlers and timers draw
    found = ran(page), elements(page), dialogs
    page.close()
    return found


@pytest.mark.parametrize("address", PAGES)
def test_no_text_of_anybody_runs_on_a_page(browser: Browser, site: Site, address: str) -> None:
    assert opened(browser, site, address) == (None, 0, [])


def test_the_attacks_are_on_the_pages_as_text(browser: Browser, site: Site) -> None:
    page = browser.new_page()
    page.goto(f"{site.url}/?group={site.ids['group']}")
    expect(page.locator("#group")).to_contain_text(f"<script>window.{MARK}=1</script>")
    page.goto(f"{site.url}/train?run={site.ids['run']}")
    expect(page.locator("#run")).to_contain_text(f"<script>window.{MARK}=1</script>")
    page.close()

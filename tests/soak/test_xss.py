"""Each of forty attacks in every place where a text of somebody's can stand, on every page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from storage.engine import open_database
from tests.browser.conftest import browser
from tests.browser.poisoned import ATTACKS, poison
from tests.browser.test_xss import PAGES, Site, opened
from tests.ui.serving import GRADIO_NOISE, web

__all__ = ["browser"]
pytestmark = GRADIO_NOISE


@pytest.mark.timeout(7200)
def test_no_attack_runs_in_any_place(
    tmp_path: Path, browser: Browser, figure: Callable[[str, str], None]
) -> None:
    looked = 0
    for first in range(len(ATTACKS)):
        db = open_database(tmp_path / str(first))
        ids = poison(db, first)
        with web(db) as url:
            for address in PAGES:
                assert opened(browser, Site(url, ids), address) == (None, 0, []), (ATTACKS[first], address)
                looked += 1
        db.close()
    figure(
        "no words of people run", f"{len(ATTACKS)} attacks in every place, {looked} pages: 0 ran, 0 dialogs"
    )

"""The whole program as a person starts it, on a folder and a port of its own, and Debian's Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Dialog, Page, expect, sync_playwright

from tests.served import ROOT, served

STARTER = ROOT / "flowgrpo" / "starter" / "weights" / "pipeline"
ANSWER_MS = 60_000
"""How long a page may take to show something on a loaded machine."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What a page did not show in a minute is looked for once more, by the whole test, and told at the end as
    RERUN: beside a loaded machine the browser itself loses an input in thousands. Every other failure stands.
    """
    once_more = pytest.mark.flaky(reruns=1, only_rerun=["Locator expected", "TimeoutError"])
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(once_more)


@dataclass(frozen=True)
class Studio:
    """A running studio.

    Attributes:
        url: where it listens.
        has_rewards: whether the starter's rewards are there; without its weights only "diversity" is.
    """

    url: str
    has_rewards: bool


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """`python app.py` on the starter, or on a tiny random pipeline where that is not built."""
    folder = tmp_path_factory.mktemp("studio")
    options: list[str] = []
    if not STARTER.is_dir():
        from tests.tiny import tiny_sdxl

        options = ["--base", str(tiny_sdxl(folder / "tiny"))]
    with served(folder / "home", folder / "log.txt", options) as running:
        yield Studio(running.url, STARTER.is_dir())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, or the one that CHROMIUM names."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.fail("There is no Chromium: apt-get install chromium, or name one in CHROMIUM.")
    expect.set_options(timeout=ANSWER_MS)
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        opened = playwright.chromium.launch(executable_path=path, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails the test on a script error, a dialog, or a request to anywhere else."""
    opened = browser.new_page(viewport={"width": 1440, "height": 900})
    opened.set_default_timeout(ANSWER_MS)
    strange: list[str] = []

    def dismissed(dialog: Dialog) -> None:
        strange.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    opened.on("pageerror", lambda error: strange.append(f"script error: {error}"))
    opened.on("dialog", dismissed)
    opened.on("request", lambda request: strange.extend([request.url] if is_elsewhere(request.url) else []))
    yield opened
    opened.close()
    assert strange == []


def is_elsewhere(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme not in ("data", "blob") and parts.hostname != "127.0.0.1"

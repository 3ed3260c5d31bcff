"""What the journeys of people share: calls of a studio's API, and the ends of its processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client
from playwright.sync_api import Page

from flowgrpo.runs import process
from flowgrpo.runs.process import RUN_MARK, marked
from storage.engine import open_database
from storage.workers import worker_status
from tests.browser.conftest import STARTER
from tests.runs.helpers import wait_for
from tests.ui.serving import PATIENT

WORK_MS = 280_000
"""How long a loaded machine may take for one piece of work."""
NEEDS_STARTER = pytest.mark.skipif(not STARTER.is_dir(), reason="the starter's weights are not built")


def asks(url: str, name: str, **fields: object) -> Any:
    """One call of the public API."""
    return Client(url, verbose=False, httpx_kwargs=PATIENT).predict(api_name=f"/{name}", **fields)


def kill_the_engine(home: Path) -> None:
    """Ends the engine in the middle of the group that it draws."""
    db = open_database(home)
    try:
        busy = wait_for(
            lambda: [one for one in worker_status(db) if one.state == "generating"],
            seconds=WORK_MS / 1000,
            what="an engine that draws",
        )
    finally:
        db.close()
    os.kill(busy[0].pid, signal.SIGKILL)


def kill_the_trainer(home: Path, run_id: str) -> None:
    """Ends what learns in a run, as when memory runs out; its shim stays and tells of it."""
    for one in marked(RUN_MARK, process.mark_of(home, run_id)):
        if "flowgrpo.runs.runner" not in one.cmdline():
            one.kill()


def number(page: Page, place: str, value: str) -> None:
    """Types a number into a field and leaves it."""
    field = page.locator(f"#{place} input")
    field.fill(value)
    field.press("Tab")

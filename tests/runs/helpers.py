"""What the tests of runs share: patience for processes, fake trainers, a tiny base."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from flowgrpo.runs.dispatcher import Dispatcher
from flowgrpo.runs.process import RUN_MARK, marked
from storage import runs
from storage.engine import Database
from storage.models import Run

T = TypeVar("T")
FAKE = Path(__file__).with_name("fake_trainer.py")
ROOT = Path(__file__).parents[2]
MakeDispatcher = Callable[..., Dispatcher]
SAMPLING: dict[str, Any] = {"num_steps": 2, "guidance_scale": 1.0, "width": 64, "height": 64}
"""The cheapest group that has everything."""


def wait_for(condition: Callable[[], T], *, seconds: float = 60.0, what: str = "the condition") -> T:
    """Returns the first true value of `condition`; fails the test when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds:.0f} s")
        time.sleep(0.03)
    return value


def fake(mode: str) -> tuple[str, ...]:
    """The command of a fake trainer."""
    return (sys.executable, "-S", str(FAKE), mode)


def state_of(db: Database, run: Run) -> str:
    return runs.get_run(db, run.id).state


def live_processes(run: Run) -> list[int]:
    return [process.pid for process in marked(RUN_MARK, run.id)]


def assert_all_gone(run: Run) -> None:
    """The shim writes the end of the run a moment before it leaves itself."""
    wait_for(lambda: not live_processes(run), seconds=5.0, what="the end of every process of the run")

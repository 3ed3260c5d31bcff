"""A data folder with a base and a queued run, dispatchers that end with the test, and patience."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from flowgrpo.runs.dispatcher import Dispatcher
from flowgrpo.runs.process import RUN_MARK, marked
from storage import checkpoints, runs
from storage.engine import Database, open_database
from storage.models import Checkpoint, Run

T = TypeVar("T")
FAKE = Path(__file__).with_name("fake_trainer.py")
MakeDispatcher = Callable[..., Dispatcher]


def wait_for(condition: Callable[[], T], *, seconds: float = 30.0, what: str = "the condition") -> T:
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


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = open_database(tmp_path / "home")
    yield database
    database.close()


@pytest.fixture
def base(db: Database) -> Checkpoint:
    return checkpoints.register_base(db, name="starter", source="weights/pipeline", family="sdxl")


@pytest.fixture
def run(db: Database, base: Checkpoint) -> Run:
    config = {"num_updates": 4, "prompts": ["red hair"]}
    return runs.create_run(db, name="first", owner_id="local", parent_checkpoint_id=base.id, config=config)


@pytest.fixture
def dispatch(db: Database) -> Iterator[MakeDispatcher]:
    """Starts a dispatcher of runs with a fake trainer; whatever it started is gone after the test."""
    made: list[Dispatcher] = []

    def start(mode: str = "done", *, grace_seconds: float = 1.0, orphan_seconds: float = 1.0) -> Dispatcher:
        dispatcher = Dispatcher(
            db, devices=(), trainer=fake(mode), grace_seconds=grace_seconds, orphan_seconds=orphan_seconds
        )
        made.append(dispatcher)
        return dispatcher.start()

    yield start
    for dispatcher in made:
        dispatcher.stop()
        for run in runs.list_runs(db):
            dispatcher.executor.stop(run.id)
        dispatcher.executor.reap()

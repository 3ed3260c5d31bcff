"""A data folder with a base and a queued run, and dispatchers that end with the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flowgrpo.runs.dispatcher import Dispatcher
from storage import checkpoints, runs
from storage.engine import Database, open_database
from storage.models import Checkpoint, Run
from tests.runs.helpers import MakeDispatcher, fake
from tests.storage.ready import ready
from tests.tiny import tiny_sdxl


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = open_database(ready(tmp_path / "home"))
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


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sdxl(tmp_path_factory.mktemp("base") / "pipeline")


@pytest.fixture
def tiny(db: Database, pipeline: Path) -> Checkpoint:
    """A base that can really draw."""
    return checkpoints.register_base(db, name="tiny", source=str(pipeline), family="sdxl")

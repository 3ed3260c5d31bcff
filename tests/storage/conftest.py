"""A fresh data folder with a base, and a queued run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import checkpoints, runs
from storage.engine import Database, open_database
from storage.groups import GroupView
from storage.models import Checkpoint, Run
from tests.storage.ready import ready
from tests.storage.records import finished_group


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def db(home: Path) -> Iterator[Database]:
    database = open_database(ready(home))
    yield database
    database.close()


@pytest.fixture
def base(db: Database) -> Checkpoint:
    return checkpoints.register_base(db, name="starter", source="weights/pipeline", family="sdxl")


@pytest.fixture
def group(db: Database, base: Checkpoint) -> GroupView:
    return finished_group(db, base)


@pytest.fixture
def run(db: Database, base: Checkpoint) -> Run:
    config = {"num_updates": 4, "prompts": ["red hair"]}
    return runs.create_run(db, name="first", owner_id="local", parent_checkpoint_id=base.id, config=config)

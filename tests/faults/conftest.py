"""A data folder with a tiny base, which the trainers that are killed draw with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import checkpoints
from storage.engine import Database, open_database
from storage.models import Checkpoint
from tests.tiny import tiny_sdxl


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = open_database(tmp_path / "home")
    yield database
    database.close()


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sdxl(tmp_path_factory.mktemp("base") / "pipeline")


@pytest.fixture
def tiny(db: Database, pipeline: Path) -> Checkpoint:
    return checkpoints.register_base(db, name="tiny", source=str(pipeline), family="sdxl")

"""A fresh data folder with a base, and shortcuts to the states that tests start from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storage import checkpoints, groups, runs
from storage.engine import Database, open_database
from storage.groups import GroupView
from storage.models import Checkpoint, GroupKind, Run

CONFIG = {"num_steps": 8, "guidance_scale": 1.0, "width": 64, "height": 64, "negative_prompt": ""}
DoneGroup = Callable[..., GroupView]


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
def done_group(db: Database, base: Checkpoint) -> DoneGroup:
    """Makes a finished group of two images."""

    def make(prompt: str = "portrait, red hair", kind: GroupKind = "studio") -> GroupView:
        group = groups.request_group(
            db,
            prompt=prompt,
            checkpoint_id=base.id,
            config=CONFIG,
            seeds=[1, 2],
            kind=kind,
            worker_id="host:cpu",
        )
        for index, seed in enumerate(group.seeds):
            groups.add_image(
                db, group_id=group.id, index=index, seed=seed, sha256=f"{seed:064x}", width=64, height=64
            )
        assert groups.finish_group(db, group.id)
        return groups.get_group(db, group.id)

    return make

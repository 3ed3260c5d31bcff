"""A stamp of a run moves with whatever a page shows of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from storage import checkpoints, groups, plans, runs
from storage.engine import Database
from storage.models import Checkpoint, Run
from storage.run_news import news_of


@pytest.fixture
def run(db: Database, base: Checkpoint) -> Run:
    made = runs.create_run(
        db, name="r", owner_id="local", parent_checkpoint_id=base.id, config={"num_updates": 3}
    )
    runs.claim_run(db, host="h", boot_id="b")
    runs.move(db, made.id, to="running", from_states=("starting",), attempt=1)
    return made


def _image(db: Database, run: Run) -> None:
    group = groups.request_group(
        db,
        prompt="p",
        checkpoint_id=run.parent_checkpoint_id,
        config={},
        seeds=[1],
        kind="sample",
        run_id=run.id,
    )
    groups.add_image(db, group_id=group.id, index=0, seed=1, sha256="0" * 64, width=8, height=8)


CHANGES: dict[str, Callable[[Database, Run], object]] = {
    "a point": lambda db, run: runs.record_metrics(db, run.id, 1, 1, {"reward/clip": 0.5}),
    "an event": lambda db, run: runs.record_event(db, run.id, 1, "warning", "look"),
    "an image": _image,
    "a checkpoint": lambda db, run: checkpoints.commit_checkpoint(
        db, run_id=run.id, attempt=1, update=1, name="c", path="p", sha256="0" * 64
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_kind_of_news_makes_another_stamp(db: Database, run: Run, change: str) -> None:
    before = news_of(db, run.id)
    assert news_of(db, run.id) == before
    CHANGES[change](db, run)
    assert news_of(db, run.id) != before


def test_a_run_that_is_not_there_has_no_news(db: Database) -> None:
    assert news_of(db, "nothing").points == 0


def test_a_plan_is_found_by_its_settings_and_asked_for_once(db: Database) -> None:
    asked = plans.request_plan(db, {"num_updates": 2}, "base")
    assert plans.request_plan(db, {"num_updates": 2}, "base").id == asked.id
    assert plans.plan_of(db, {"num_updates": 3}, "base") is None
    assert plans.plan_of(db, {"num_updates": 2}, "other") is None

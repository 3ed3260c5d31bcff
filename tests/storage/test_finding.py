"""Wanted images are found in groups however they came, many at a time."""

from __future__ import annotations

from typing import Any

import pytest

from storage import finding, groups
from storage.engine import Database
from storage.finding import Wanted
from storage.models import Checkpoint, GroupState
from tests.storage.records import CONFIG, finished_group

CANCELED: tuple[GroupState, ...] = ("canceled",)


def wanted(base: Checkpoint, *seeds: int, **changes: Any) -> Wanted:
    said: dict[str, Any] = {"prompt": "portrait, red hair", "checkpoint_id": base.id, "config": CONFIG}
    return Wanted(**said | changes, seeds=seeds)


def test_a_group_is_found_by_exactly_its_seeds_and_the_newest_one_wins(
    db: Database, base: Checkpoint
) -> None:
    older, newer = (finished_group(db, base, num_images=2) for _ in range(2))
    exact, more, fewer = finding.find_groups(db, [wanted(base, 0, 1), wanted(base, 0, 1, 2), wanted(base, 0)])
    assert exact is not None and exact.group.id == newer.group.id != older.group.id
    assert more is fewer is None


def test_an_image_is_found_inside_any_group_that_has_its_seed(db: Database, base: Checkpoint) -> None:
    made = finished_group(db, base, num_images=3)
    there, absent = finding.find_images(db, [wanted(base, 2), wanted(base, 3)])
    assert there is not None and there.image is not None
    assert (there.image.id, there.image.seed) == (made.images[2].image.id, 2)
    assert absent is None


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "Portrait, red hair"},
        {"config": CONFIG | {"num_steps": 9}},
        {"config": CONFIG | {"negative_prompt": "hat"}},
    ],
)
def test_whatever_decides_how_an_image_looks_tells_images_apart(
    db: Database, base: Checkpoint, change: dict[str, Any]
) -> None:
    finished_group(db, base)
    assert finding.find_images(db, [wanted(base, 0, **change)]) == [None]
    assert finding.find_groups(db, [wanted(base, 0, 1, **change)]) == [None]


def test_a_group_in_work_is_found_before_it_has_images(db: Database, base: Checkpoint) -> None:
    groups.request_group(db, prompt="p", checkpoint_id=base.id, config=CONFIG, seeds=[4, 5])
    (found,) = finding.find_images(db, [wanted(base, 5, prompt="p")])
    assert found is not None and found.image is None and found.view.group.state == "queued"


def test_a_canceled_group_is_only_found_by_those_who_ask_for_it(db: Database, base: Checkpoint) -> None:
    asked = groups.request_group(db, prompt="p", checkpoint_id=base.id, config=CONFIG, seeds=[4])
    groups.cancel_group(db, asked.id)
    want = [wanted(base, 4, prompt="p")]
    assert finding.find_groups(db, want) == [None]
    (found,) = finding.find_groups(db, want, states=CANCELED)
    assert found is not None and found.group.id == asked.id


def test_images_of_a_run_s_rollouts_are_not_shown_as_a_comparison(db: Database, base: Checkpoint) -> None:
    finished_group(db, base, kind="rollout")
    assert finding.find_images(db, [wanted(base, 0)]) == [None]


def test_nothing_wanted_is_nothing_found(db: Database) -> None:
    assert finding.find_groups(db, []) == [] and finding.find_images(db, []) == []

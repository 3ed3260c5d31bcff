"""Prompt sets: a changed list is a new version, and what changed is told."""

from __future__ import annotations

import pytest

from storage import prompts, runs
from storage.engine import Database
from storage.models import Checkpoint
from storage.prompts import Difference


def test_the_same_list_is_the_same_version_and_another_one_a_new_one(db: Database) -> None:
    first = prompts.save_prompt_set(db, "hair", ["red hair", "blue hair"], ["green hair"])
    again = prompts.save_prompt_set(db, "hair", ["red hair", "blue hair"], ["green hair"])
    other = prompts.save_prompt_set(db, "hair", ["blue hair", "red hair"], ["green hair"])
    assert (again.id, other.version) == (first.id, 2)
    assert [one.version for one in prompts.versions_of(db, "hair")] == [2, 1]


def test_what_stands_beside_a_prompt_is_part_of_the_list(db: Database) -> None:
    plain = prompts.save_prompt_set(db, "hair", ["red hair"], [])
    seeded = prompts.save_prompt_set(db, "hair", ["red hair"], [], {"red hair": {"seed": 7}})
    assert seeded.version == plain.version + 1
    assert [row.attributes for row in prompts.prompts_of(db, seeded.id, "train")] == [{"seed": 7}]
    assert prompts.save_prompt_set(db, "hair", ["red hair"], [], {"red hair": {"seed": 7}}).id == seeded.id


def test_a_version_says_how_many_prompts_each_split_has_and_whether_it_is_the_newest(db: Database) -> None:
    first = prompts.save_prompt_set(db, "hair", ["red hair", "blue hair"], ["green hair"])
    second = prompts.save_prompt_set(db, "hair", ["red hair"], [])
    old, new = (prompts.get_prompt_set(db, one.id) for one in (first, second))
    assert (old.train, old.held_out, old.is_newest) == (2, 1, False)
    assert (new.train, new.held_out, new.is_newest) == (1, 0, True)
    assert [view.row.id for view in prompts.view_prompt_sets(db)] == [second.id]


def test_the_difference_of_two_versions_names_what_came_what_went_and_what_moved(db: Database) -> None:
    first = prompts.save_prompt_set(db, "hair", ["red hair", "blue hair"], ["green hair"])
    second = prompts.save_prompt_set(db, "hair", ["RED  hair", "green hair", "black hair"], [])
    assert prompts.difference(db, first.id, second.id) == Difference(
        ("black hair",), ("blue hair",), ("green hair",)
    )
    assert prompts.difference(db, first.id, first.id) == Difference((), (), ())


def test_a_set_names_the_runs_that_took_their_prompts_from_any_version_of_it(
    db: Database, base: Checkpoint
) -> None:
    sets = [prompts.save_prompt_set(db, "hair", train, []) for train in (["red hair"], ["blue hair"])]
    other = prompts.save_prompt_set(db, "eyes", ["green eyes"], [])
    for number, one in enumerate([*sets, other], start=1):
        config = {"num_updates": 1, "prompts": ["red hair"], "number": number}
        run = runs.create_run(
            db, name=f"r{number}", owner_id="local", parent_checkpoint_id=base.id, config=config
        )
        with db.write() as session:
            session.merge(run).prompt_set_id = one.id
    assert [(run.name, version) for run, version in prompts.runs_of_set(db, "hair")] == [("r2", 2), ("r1", 1)]


def test_a_prompt_in_both_splits_is_refused_however_it_is_written(db: Database) -> None:
    with pytest.raises(ValueError, match="both splits"):
        prompts.save_prompt_set(db, "hair", ["red hair"], ["Red  Hair"])
    assert prompts.list_prompt_sets(db) == []


def test_the_set_that_holds_prompts_is_the_newest_that_trains_on_all_of_them(db: Database) -> None:
    older = prompts.save_prompt_set(db, "some", ["a cat", "a dog"], ["a cow"])
    newer = prompts.save_prompt_set(db, "some", ["a cat", "a dog", "a fox"], ["a cow"])
    assert prompts.set_holding(db, ["A  Cat", "a dog"]).id == newer.id  # type: ignore[union-attr]
    assert older.id != newer.id
    assert prompts.set_holding(db, ["a cat", "a cow"]) is None
    assert prompts.set_holding(db, []) is None

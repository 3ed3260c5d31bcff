"""Whatever taught a checkpoint, through however many runs, is told of the prompts of a test."""

from __future__ import annotations

from typing import Any

import pytest

from storage import checkpoints, lineage, ratings, runs, snapshots
from storage.engine import Database
from storage.models import Checkpoint
from storage.models_judging import VoteSnapshot
from storage.ratings import RatingInput
from tests.storage.records import finished_group


def made(
    db: Database, parent: Checkpoint, *prompts: str, votes: dict[str, Any] | None = None, **config: Any
) -> Checkpoint:
    """A checkpoint of a new run on these prompts."""
    run = runs.create_run(
        db, name="r", owner_id="local", parent_checkpoint_id=parent.id,
        config={"prompts": list(prompts), "num_updates": 4, **config},
    )  # fmt: skip
    name = f"Run {run.number} · update 4"
    return checkpoints.commit_checkpoint(
        db, run_id=run.id, attempt=0, update=4, name=name, path="p", sha256="0" * 64, votes=votes
    )


def rated(db: Database, base: Checkpoint, *prompts: str) -> VoteSnapshot:
    """The votes on a group of each prompt, frozen."""
    before = len(snapshots.standing_votes(db))
    for number, prompt in enumerate(prompts, before):
        view = finished_group(db, base, prompt)
        best = view.images[0].image.id
        ratings.rate(db, RatingInput(f"vote-key-{number}", "local", view.group.id, "best", best))
    return snapshots.take_snapshot(db, snapshots.standing_votes(db)[before:])


def said(db: Database, checkpoint: Checkpoint, *prompts: str) -> str:
    return lineage.trained_on(db, [checkpoint.id], prompts).get(checkpoint.id, "")


def test_prompts_of_the_run_are_told_whatever_their_case_and_spacing(db: Database, base: Checkpoint) -> None:
    one = made(db, base, "Red  hair", "blue hair", "glasses")
    assert said(db, one, "red hair ", "BLUE hair", "a hat") == (
        "2 of 3 prompts trained Run 1 · update 4: its numbers there say how well it learned its own prompts."
    )
    assert said(db, one, "a hat", "a coat") == ""
    assert lineage.trained_on(db, [base.id, one.id], ["red hair", "a hat"]).keys() == {one.id}


def test_the_runs_before_it_taught_it_too(db: Database, base: Checkpoint) -> None:
    first = made(db, base, "red hair")
    second = made(db, first, "blue hair")
    third = made(db, second, "glasses")
    assert [lesson.run_number for lesson in lineage.lessons_of(db, third.id)] == [3, 2, 1]
    assert "trained Run 3 · update 4 by way of run 1: " in said(db, third, "red hair", "a hat")
    assert "2 of 2 prompts trained Run 3 · update 4 by way of runs 1 and 3: " in said(
        db, third, "red hair", "glasses"
    )
    assert said(db, first, "blue hair", "glasses") == ""
    assert lineage.lessons_of(db, base.id) == []


def test_a_run_from_ratings_was_trained_on_every_rated_prompt_and_not_on_those_it_shows_alone(
    db: Database, base: Checkpoint
) -> None:
    snapshot = rated(db, base, "a hat", "a coat", "a scarf")
    votes = {"snapshot": snapshot.id, "hash": snapshot.hash}
    one = made(db, base, "a hat", ratings={"snapshot": snapshot.id}, votes=votes)
    (lesson,) = lineage.lessons_of(db, one.id)
    assert (len(lesson.trained), lesson.rated, lesson.unknown) == (3, frozenset(), "")
    assert said(db, one, "a scarf", "a coat", "glasses").startswith("2 of 3 prompts trained Run 1")
    assert lineage.taught_by(db, snapshot.id, ["A hat", "glasses"]) == 1


def test_ratings_that_taught_its_rewards_are_told_apart_from_its_own_prompts(
    db: Database, base: Checkpoint
) -> None:
    head, weights = rated(db, base, "red hair", "a hat"), rated(db, base, "a coat")
    votes = {"snapshot": head.id, "hash": head.hash, "weights": {"snapshot": weights.id, "fit": "f"}}
    one = made(db, base, "red hair", votes=votes)
    assert said(db, one, "red hair", "a hat", "a coat", "glasses") == (
        "1 of 4 prompts trained Run 1 · update 4: its numbers there say how well it learned its own prompts; "
        "ratings of 2 of 4 prompts taught the rewards of Run 1 · update 4: its numbers there say how well it "
        "learned what was rated."
    )
    assert said(db, one, "a hat").startswith("Ratings of 1 of 1 prompt taught the rewards of Run 1 ")


@pytest.mark.parametrize(
    ("config", "votes", "why"),
    [
        ({"algorithm": {"name": "sft", "folder": "x"}}, None, "a folder whose captions are not kept"),
        ({}, {"snapshot": "gone"}, "ratings that it learned from are gone"),
    ],
)
def test_what_cannot_be_known_is_said(
    db: Database, base: Checkpoint, config: dict[str, Any], votes: dict[str, Any] | None, why: str
) -> None:
    one = made(db, base, "glasses", votes=votes, **config)
    told = said(db, made(db, one, "a coat"), "red hair")
    assert told.startswith("Whether all other prompts are new to Run 2 · update 4 is not known: ")
    assert told.count(why) == 1


def test_a_blind_name_tells_neither_checkpoint_nor_run(db: Database, base: Checkpoint) -> None:
    two = made(db, made(db, base, "red hair"), "glasses")
    told = lineage.trained_on(
        db, [base.id, two.id], ["red hair", "a hat"], called="a checkpoint of this test"
    )
    assert told[two.id].startswith("1 of 2 prompts trained a checkpoint of this test: ")
    assert "un 1" not in told[two.id] and "un 2" not in told[two.id]


def test_a_checkpoint_that_is_none_is_named(db: Database) -> None:
    with pytest.raises(LookupError, match="there is no checkpoint with the id nobody"):
        lineage.trained_on(db, ["nobody"], ["red hair"])

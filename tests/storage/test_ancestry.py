"""Where a checkpoint comes from: every parent, with the prompts, rewards and votes behind it."""

from __future__ import annotations

from typing import Any

import pytest

from storage import ancestry, checkpoints, evaluations, exports, prompts, ratings, runs, snapshots
from storage.engine import Database
from storage.models import Checkpoint, Run
from storage.ratings import RatingInput
from tests.storage.records import finished_group
from tests.storage.test_runs import start


def tuned(db: Database, parent: Checkpoint, votes: dict[str, Any] | None = None, **more: Any) -> Checkpoint:
    """The one checkpoint of a run that is complete."""
    config = more.pop("config", {"prompts": ["red hair", "glasses"], "reward_weights": {"clip": 0.5, "x": 0}})
    run = runs.create_run(
        db, name="a", owner_id="local", parent_checkpoint_id=parent.id, config=config, **more
    )
    attempt = start(db, run)
    made = checkpoints.commit_checkpoint(
        db, run_id=run.id, attempt=attempt, update=4, name=f"Run {run.number}", path=f"runs/{run.id}/4",
        sha256="a" * 64, votes=votes,
    )  # fmt: skip
    assert runs.move(db, run.id, to="completed", from_states=("running",), attempt=attempt)
    return made


def say_best(db: Database, base: Checkpoint, prompt: str, key: str) -> None:
    group = finished_group(db, base, prompt)
    said = [RatingInput(key, "local", group.group.id, "best", group.images[0].image.id)]
    ratings.submit(db, "local", group.group.id, said)


def test_the_line_goes_down_to_the_base_with_what_made_each(db: Database, base: Checkpoint) -> None:
    named = prompts.save_prompt_set(db, "portraits", ["red hair", "glasses"], ["blue hair"])
    first = tuned(db, base)
    second = tuned(db, first, prompt_set_id=named.id)
    found = ancestry.lineage_of(db, second.id)
    assert [step.checkpoint.id for step in found.steps] == [second.id, first.id, base.id]
    assert [step.run.number if step.run else None for step in found.steps] == [2, 1, None]
    assert found.base.name == "starter"
    for step in found.steps[:2]:
        assert step.prompt_set is not None
        assert (step.prompt_set.id, step.num_prompts, dict(step.rewards)) == (named.id, 2, {"clip": 0.5})
    assert [run.number for run in ancestry.lineage_of(db, first.id).runs] == [2]


def test_prompts_that_no_set_has_name_none(db: Database, base: Checkpoint) -> None:
    prompts.save_prompt_set(db, "portraits", ["red hair", "hat"], [])
    prompts.save_prompt_set(db, "others", ["glasses", "red hair"], [])
    assert ancestry.lineage_of(db, tuned(db, base).id).steps[0].prompt_set is None


def test_votes_are_named_counted_and_those_taken_back_since_told(db: Database, base: Checkpoint) -> None:
    say_best(db, base, "one", "key-of-rating-1")
    say_best(db, base, "two", "key-of-rating-2")
    snapshot = snapshots.take_snapshot(db, snapshots.standing_votes(db))
    votes = {"snapshot": snapshot.id, "hash": snapshot.hash, "votes": 2}
    loop = tuned(db, base, {"snapshot": snapshot.id, "hash": snapshot.hash, "votes": 2, "weights": votes})
    rated = tuned(db, base, votes, config={"prompts": ["red hair"], "ratings": {"snapshot": snapshot.id}})
    ratings.undo(db, annotator_id="local", client_key="key-of-undo-1")
    (behind,) = ancestry.lineage_of(db, rated.id).steps[0].votes
    assert (behind.how, behind.hash, behind.count, behind.taken_back) == ("ratings", snapshot.hash, 2, 1)
    assert [one.how for one in ancestry.lineage_of(db, loop.id).steps[0].votes] == ["in_the_loop", "weights"]


def test_figures_and_files_belong_to_the_checkpoint_alone(db: Database, base: Checkpoint, run: Run) -> None:
    runs.request_stop(db, run.id)
    first = tuned(db, base)
    second = tuned(db, first)
    evaluations.record_evaluation(
        db, checkpoint_id=first.id, metric="clip", value=0.5, low=0.4, high=0.6, n=8, extractor="x"
    )
    exports.record_export(
        db, export_id="e" * 36, checkpoint_id=first.id, layout="kohya", path="exports/e", sha256="b" * 64,
        created_by="local",
    )  # fmt: skip
    found = ancestry.lineage_of(db, first.id)
    assert [one.metric for one in found.figures] == ["clip"]
    assert [one.id for one in found.exports] == ["e" * 36]
    other = ancestry.lineage_of(db, second.id)
    assert (other.figures, other.exports) == ([], [])
    with pytest.raises(LookupError, match="no checkpoint"):
        ancestry.lineage_of(db, "nothing")
    with pytest.raises(LookupError, match="file is gone"):
        exports.file_of(db, found.exports[0])

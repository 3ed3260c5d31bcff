"""More of what was tuned: extended, branched, made once more, and nothing overwritten."""

from __future__ import annotations

from typing import Any

import pytest

from storage import branches, checkpoints, run_wishes, runs
from storage.engine import Database
from storage.models import Checkpoint, Run
from tests.storage.test_runs import commit, start


@pytest.fixture
def last(db: Database, run: Run) -> Checkpoint:
    """The last checkpoint of `run`, which is complete."""
    attempt = start(db, run)
    made = commit(db, run, attempt, 4)
    assert runs.move(db, run.id, to="completed", from_states=("running",), attempt=attempt)
    return made


def test_a_complete_run_is_extended_and_its_history_says_so(db: Database, run: Run, last: Checkpoint) -> None:
    longer = branches.continue_run(db, run.id, 6)
    assert (longer.id, longer.state, longer.config["num_updates"]) == (run.id, "queued", 10)
    assert longer.config_hash != run.config_hash
    said = next(e for e in runs.events(db, run.id) if e.kind == "extended")
    assert said.detail.startswith("extended from 4 to 10 updates by ")
    assert said.payload == {"from": 4, "to": 10, "user": "local", "config": run.config_hash}
    assert start(db, longer) == 2
    assert [c.id for c in checkpoints.checkpoints_of_run(db, run.id)] == [last.id]


def test_only_a_complete_run_is_extended_by_a_number_that_fits(db: Database, run: Run) -> None:
    with pytest.raises(ValueError, match="is queued: only a completed run"):
        branches.continue_run(db, run.id, 1)
    attempt = start(db, run)
    made = commit(db, run, attempt, 4)
    assert runs.move(db, run.id, to="completed", from_states=("running",), attempt=attempt)
    for number in (0, -1, 99_997):
        with pytest.raises(ValueError, match="1 to 99996 updates"):
            branches.continue_run(db, run.id, number)
    checkpoints.mark_checkpoint(db, made.id, "pruned")
    with pytest.raises(LookupError, match="last checkpoint of run 1 is gone"):
        branches.continue_run(db, run.id, 1)
    assert runs.get_run(db, run.id).state == "completed"
    assert runs.get_run(db, run.id).config == run.config


def test_a_rate_that_fell_to_nothing_rises_again_and_that_is_said(db: Database, base: Checkpoint) -> None:
    config = {"num_updates": 4, "update": {"decay": "linear"}}
    run = runs.create_run(db, name="a", owner_id="local", parent_checkpoint_id=base.id, config=config)
    attempt = start(db, run)
    commit(db, run, attempt, 4)
    assert runs.move(db, run.id, to="completed", from_states=("running",), attempt=attempt)
    branches.continue_run(db, run.id, 1)
    assert "so it rises once" in next(e.detail for e in runs.events(db, run.id) if e.kind == "extended")


def test_a_branch_is_another_run_from_the_weights_with_changes(db: Database, base: Checkpoint) -> None:
    config: dict[str, Any] = {
        "num_updates": 4, "prompts": ["red hair"], "reward_weights": {"clip": 1.0},
        "update": {"learning_rate": 1e-3, "kl_weight": 0.0}, "lora": {"rank": 4},
    }  # fmt: skip
    run = runs.create_run(db, name="a", owner_id="local", parent_checkpoint_id=base.id, config=config)
    made = commit(db, run, start(db, run), 2)
    changes = {"update": {"kl_weight": 0.5}, "reward_weights": {"quality": 1.0}}
    other = branches.branch(db, made.id, changes, name="other way")
    assert (other.parent_checkpoint_id, other.state, other.number) == (made.id, "queued", 2)
    assert other.config["update"] == {"learning_rate": 1e-3, "kl_weight": 0.5}
    assert other.config["reward_weights"] == {"quality": 1.0}
    assert runs.get_run(db, run.id).config == config
    with pytest.raises(ValueError, match="keeps its LoRA settings"):
        branches.branch(db, made.id, {"lora": {"rank": 8}}, name="wider")
    with pytest.raises(LookupError, match="no run made starter"):
        branches.branch(db, base.id, {}, name="nothing")


def test_a_run_is_made_once_more_and_says_what_cannot_be_the_same(db: Database, base: Checkpoint) -> None:
    config: dict[str, Any] = {"seed": 7, "reward_weights": {"human": 1.0}, "ratings": None}
    run = runs.create_run(db, name="a", owner_id="local", parent_checkpoint_id=base.id, config=config)
    again = branches.reproduce(db, run.id)
    assert again.run.id != run.id
    assert (again.run.parent_checkpoint_id, again.run.config, again.run.config_hash) == (
        run.parent_checkpoint_id, run.config, run.config_hash,
    )  # fmt: skip
    (sentence,) = again.differences
    assert sentence.startswith("It learns from people's votes as they stand")
    assert sentence in next(e.detail for e in runs.events(db, again.run.id) if e.kind == "reproduces")


def test_a_run_that_can_be_the_same_has_no_differences_but_the_machine(db: Database, run: Run) -> None:
    attempt = start(db, run)
    run_wishes.request_save(db, run.id)
    assert branches.reproduce(db, run.id, host="here").differences == []
    assert "another machine" in branches.reproduce(db, run.id, host="there").differences[0]
    runs.record_event(db, run.id, attempt, "pause", "Look at this.", {"update": 3})
    assert branches.reproduce(db, run.id).differences == [
        "People decided on alarms of the first one, and are asked again."
    ]

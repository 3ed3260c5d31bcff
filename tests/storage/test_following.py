"""A run that follows another: it waits for it, says so, and starts from the last checkpoint of that one."""

from __future__ import annotations

from typing import Any

import pytest

from storage import checkpoints, following, prompts, runs
from storage.engine import Database
from storage.models import Checkpoint, Run, RunState
from tests.storage.test_runs import commit, start


@pytest.fixture
def second(db: Database, base: Checkpoint, run: Run) -> Run:
    """Follows `run`."""
    wanted: dict[str, Any] = {"owner_id": "local", "parent_checkpoint_id": base.id, "config": {}}
    return runs.create_run(db, name="second", follows_id=run.id, **wanted)


def claimed(db: Database) -> str | None:
    found = runs.claim_run(db, host="here", boot_id="boot")
    return found.id if found else None


def test_it_starts_from_the_last_checkpoint_of_the_run_that_it_follows(
    db: Database, run: Run, second: Run
) -> None:
    attempt = start(db, run)
    assert runs.claim_run(db, host="there", boot_id="boot") is None
    assert following.why_waiting(db, second.id) == (
        "Waits until run 1 (first) is complete, and starts from its last checkpoint."
    )
    made = [commit(db, run, attempt, update) for update in (2, 4)]
    assert runs.move(db, run.id, to="completed", from_states=("running",), attempt=attempt)
    assert following.why_waiting(db, second.id) is None
    assert claimed(db) == second.id
    assert runs.get_run(db, second.id).parent_checkpoint_id == made[-1].id
    assert [e.detail for e in runs.events(db, second.id) if e.kind == "follows"] == ["starts from first 4"]


@pytest.mark.parametrize("state", ["stopped", "failed", "paused"])
def test_it_waits_for_one_that_ended_early_and_goes_on_with_it(
    db: Database, run: Run, second: Run, state: RunState
) -> None:
    attempt = start(db, run)
    last = commit(db, run, attempt, 2)
    assert runs.move(db, run.id, to=state, from_states=("running",), attempt=attempt)
    assert claimed(db) is None
    assert f"which is {state}. Resume that one" in (following.why_waiting(db, second.id) or "")
    runs.resume_run(db, run.id)
    assert runs.move(db, run.id, to="completed", from_states=("running",), attempt=start(db, run))
    assert claimed(db) == second.id
    assert runs.get_run(db, second.id).parent_checkpoint_id == last.id


def test_others_go_before_it_and_it_can_be_canceled(db: Database, base: Checkpoint, second: Run) -> None:
    wanted: dict[str, Any] = {"owner_id": "local", "parent_checkpoint_id": base.id, "config": {}}
    third = runs.create_run(db, name="third", **wanted)
    first = runs.get_run(db, str(second.follows_id))
    assert [run.id for run in following.followers_of(db, first.id)] == [second.id]
    runs.request_stop(db, first.id)
    assert "was canceled before it started. Cancel this run" in (following.why_waiting(db, second.id) or "")
    assert claimed(db) == third.id
    assert runs.request_stop(db, second.id).state == "canceled"
    assert following.why_waiting(db, second.id) is None


def test_once_started_it_keeps_its_parent_whatever_becomes_of_the_other(
    db: Database, run: Run, second: Run
) -> None:
    attempt = start(db, run)
    made = commit(db, run, attempt, 4)
    assert runs.move(db, run.id, to="completed", from_states=("running",), attempt=attempt)
    attempt = start(db, second)
    assert runs.move(db, second.id, to="failed", from_states=("running",), attempt=attempt)
    checkpoints.mark_checkpoint(db, made.id, "bad")
    runs.resume_run(db, second.id)
    assert claimed(db) == second.id
    assert runs.get_run(db, second.id).parent_checkpoint_id == made.id


def test_a_complete_run_without_files_is_waited_for_in_words(db: Database, run: Run, second: Run) -> None:
    attempt = start(db, run)
    made = commit(db, run, attempt, 4)
    checkpoints.mark_checkpoint(db, made.id, "bad")
    assert runs.move(db, run.id, to="completed", from_states=("running",), attempt=attempt)
    assert claimed(db) is None
    assert "its files are gone or damaged" in (following.why_waiting(db, second.id) or "")


def test_what_cannot_be_followed_is_refused(db: Database, base: Checkpoint, run: Run) -> None:
    other = checkpoints.register_base(db, name="other", source="y", family="sdxl")
    wanted: dict[str, Any] = {"name": "a", "owner_id": "local", "config": {}}
    with pytest.raises(LookupError, match="no run"):
        runs.create_run(db, parent_checkpoint_id=base.id, follows_id="nothing", **wanted)
    with pytest.raises(ValueError, match="another base"):
        runs.create_run(db, parent_checkpoint_id=other.id, follows_id=run.id, **wanted)
    runs.request_stop(db, run.id)
    with pytest.raises(ValueError, match="was canceled"):
        runs.create_run(db, parent_checkpoint_id=base.id, follows_id=run.id, **wanted)
    assert len(runs.list_runs(db)) == 1


def test_a_run_names_the_set_of_its_prompts(db: Database, base: Checkpoint) -> None:
    made = prompts.save_prompt_set(db, "portraits", ["red hair"], [])
    wanted: dict[str, Any] = {"name": "a", "owner_id": "local", "parent_checkpoint_id": base.id, "config": {}}
    assert runs.create_run(db, prompt_set_id=made.id, **wanted).prompt_set_id == made.id
    with pytest.raises(LookupError, match="no prompt set"):
        runs.create_run(db, prompt_set_id="nothing", **wanted)

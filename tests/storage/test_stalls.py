from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from storage import run_rules, runs, stalls
from storage.attempts import fruitless_attempts
from storage.engine import Database
from storage.models import Run
from storage.run_rules import RunRules
from tests.storage.test_runs import commit, start


def test_a_beat_counts_as_progress_only_where_update_or_phase_is_another(db: Database, run: Run) -> None:
    attempt = start(db, run)

    def progress_after(**said: object) -> object:
        assert runs.beat(db, run.id, attempt, **said)  # type: ignore[arg-type]
        beat = runs.beat_of(db, run.id)
        assert beat is not None
        return beat.progress_at

    first = progress_after(phase="loading")
    assert progress_after() == first
    assert progress_after(phase="loading", update=0) == first
    second = progress_after(phase="sampling")
    assert second != first
    assert progress_after(phase="sampling", update=1) != second


def test_a_stalled_run_says_so_once_and_is_cleared_when_it_moves(db: Database, run: Run) -> None:
    attempt = start(db, run)
    runs.beat(db, run.id, attempt, phase="sampling")
    assert stalls.mark_stalled(db, run.id, attempt, "No progress.", {"stack": ["Thread 0x1"]})
    assert not stalls.mark_stalled(db, run.id, attempt, "No progress.")
    assert not stalls.mark_stalled(db, run.id, attempt - 1, "A process that is over.")
    assert runs.get_run(db, run.id).stalled_at is not None
    runs.beat(db, run.id, attempt)  # its shim lives, which is no progress
    assert runs.get_run(db, run.id).stalled_at is not None
    runs.beat(db, run.id, attempt, phase="updating")
    assert runs.get_run(db, run.id).stalled_at is None
    kinds = [event.kind for event in runs.events(db, run.id)]
    assert kinds[-2:] == ["stalled", "moving"]


def test_a_run_that_ends_is_not_stalled(db: Database, run: Run) -> None:
    attempt = start(db, run)
    stalls.mark_stalled(db, run.id, attempt, "No progress.")
    assert runs.move(db, run.id, to="stopped", from_states=("running",), attempt=attempt)
    assert runs.get_run(db, run.id).stalled_at is None
    assert not stalls.mark_stalled(db, run.id, attempt, "No progress.")


def test_rules_are_kept_and_impossible_ones_refused(db: Database) -> None:
    assert run_rules.run_rules(db) == RunRules()
    run_rules.set_run_rules(db, RunRules(stall_minutes=3, end_stalled=True))
    assert run_rules.run_rules(db) == RunRules(stall_minutes=3, end_stalled=True)
    impossible: tuple[dict[str, Any], ...] = ({"stall_minutes": 0}, {"keep_last": 1}, {"keep_every": -1})
    for wrong in impossible:
        with pytest.raises(ValueError, match=r"between|at least|whole number"):
            run_rules.set_run_rules(db, replace(RunRules(), **wrong))


def test_attempts_without_a_new_checkpoint_are_counted_since_a_person_queued_the_run(
    db: Database, run: Run
) -> None:
    def again(by: str) -> None:
        ended = "lost" if by == "itself" else "failed"
        assert runs.move(db, run.id, to=ended, from_states=("running",))  # type: ignore[arg-type]
        runs.resume_run(db, run.id)

    start(db, run)
    assert fruitless_attempts(db, run.id) == 1
    again("itself")
    attempt = start(db, run)
    assert fruitless_attempts(db, run.id) == 2
    commit(db, run, attempt, 1)
    assert fruitless_attempts(db, run.id) == 0
    again("itself")
    commit(db, run, start(db, run), 1)  # the same one again, which is no way forward
    assert fruitless_attempts(db, run.id) == 1
    again("a person")
    assert fruitless_attempts(db, run.id) == 0
    start(db, run)
    assert fruitless_attempts(db, run.id) == 1

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from flowgrpo.runs import layout
from storage import runs
from storage.engine import Database
from storage.locks import is_held
from storage.models import Run
from storage.run_rules import RunRules, set_run_rules
from tests.runs.helpers import MakeDispatcher, assert_all_gone, state_of, wait_for


def _pid(db: Database, run: Run, name: str) -> int:
    path = layout.run_folder(db.home, run.id) / name
    return int(wait_for(lambda: path.read_text() if path.exists() else None, what=f"the file {name}"))


def _wait_for_state(db: Database, run: Run, *states: str) -> Run:
    wait_for(lambda: state_of(db, run) in states, what=f"state {states} (now {state_of(db, run)})")
    return runs.get_run(db, run.id)


def test_a_run_that_ends_well_is_completed_and_leaves_nothing(
    db: Database, run: Run, dispatch: MakeDispatcher
) -> None:
    dispatch("done")
    done = _wait_for_state(db, run, "completed")
    assert done.reason is None
    assert done.started_at is not None
    assert done.finished_at is not None
    wait_for(lambda: not is_held(layout.run_lock(db.home, run.id)), what="a free lock")
    assert_all_gone(db, run)
    assert [e.to_state for e in runs.events(db, run.id)] == ["queued", "starting", "running", "completed"]


def test_a_failed_run_says_why_with_the_end_of_its_log(
    db: Database, run: Run, dispatch: MakeDispatcher
) -> None:
    dispatch("crash")
    reason = _wait_for_state(db, run, "failed").reason
    assert reason is not None
    assert reason.startswith("The trainer ended with exit code 1.")
    assert "the fake trainer fell over" in reason
    assert "line 59" in reason
    assert "line 0\n" not in reason
    assert len(reason.splitlines()) <= 43


@pytest.mark.parametrize(("code", "state"), [(64, "failed"), (74, "paused"), (75, "stopped")])
def test_each_exit_code_leads_to_its_state_with_the_trainers_own_sentence(
    db: Database, run: Run, dispatch: MakeDispatcher, code: int, state: str
) -> None:
    dispatch(str(code))
    ended = _wait_for_state(db, run, "failed", "paused", "stopped", "completed")
    assert ended.state == state
    assert (ended.reason or "").startswith(f"The trainer chose to end with {code}.")


def test_a_killed_trainer_is_reported_as_killed(db: Database, run: Run, dispatch: MakeDispatcher) -> None:
    dispatch("polite")
    os.kill(_pid(db, run, "trainer.pid"), signal.SIGKILL)
    reason = _wait_for_state(db, run, "failed").reason
    assert reason is not None
    assert "killed by SIGKILL, likely out of memory" in reason
    assert runs.attempts_of(db, run.id)[-1].signal == signal.SIGKILL


def test_a_polite_trainer_stops_within_a_second_or_two(
    db: Database, run: Run, dispatch: MakeDispatcher
) -> None:
    dispatch("polite", grace_seconds=30.0)
    _pid(db, run, "trainer.pid")
    runs.request_stop(db, run.id)
    wait_for(lambda: state_of(db, run) == "stopped", seconds=10.0, what="stopped")
    assert_all_gone(db, run)


@pytest.mark.parametrize("mode", ["deaf", "setsid"])
def test_stop_ends_a_trainer_that_ignores_it(
    db: Database, run: Run, dispatch: MakeDispatcher, mode: str
) -> None:
    dispatch(mode)
    _pid(db, run, "trainer.pid")
    runs.request_stop(db, run.id)
    stopped = _wait_for_state(db, run, "stopped")
    assert "ended by force" in (stopped.reason or "")
    assert_all_gone(db, run)


def test_stop_ends_a_trainer_that_is_frozen(db: Database, run: Run, dispatch: MakeDispatcher) -> None:
    dispatch("polite")
    os.kill(_pid(db, run, "trainer.pid"), signal.SIGSTOP)
    runs.request_stop(db, run.id)
    _wait_for_state(db, run, "stopped")
    assert_all_gone(db, run)


def test_a_grandchild_that_left_session_and_parent_is_swept(
    db: Database, run: Run, dispatch: MakeDispatcher
) -> None:
    dispatch("orphan")
    child = _pid(db, run, "child.pid")
    _wait_for_state(db, run, "completed")
    assert not Path(f"/proc/{child}").exists()


def test_a_run_that_waits_is_canceled_without_a_process(db: Database, run: Run) -> None:
    runs.request_stop(db, run.id)
    assert state_of(db, run) == "canceled"
    assert_all_gone(db, run)


def _stuck(db: Database, run: Run, *, end: bool = False) -> None:
    set_run_rules(db, RunRules(stall_minutes=0.02, end_stalled=end))


def test_a_run_that_stands_still_is_found_with_its_stack_and_moves_again(
    db: Database, run: Run, dispatch: MakeDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWGRPO_BEAT_SECONDS", "0.2")
    _stuck(db, run)
    dispatch("stuck")
    _wait_for_state(db, run, "running")
    wait_for(lambda: runs.get_run(db, run.id).stalled_at, what="a run that stands still")
    (event,) = [one for one in runs.events(db, run.id) if one.kind == "stalled"]
    assert event.detail.startswith("No progress for 1 s at update 0 (starting). What each of its threads")
    assert event.payload is not None
    assert any("fake_trainer.py" in line for line in event.payload["stack"])
    log = "\n".join(layout.log_tail(layout.run_log(db.home, run.id)))
    assert "fake_trainer.py" in log
    assert runs.beat(db, run.id, 1, update=1)
    assert runs.get_run(db, run.id).stalled_at is None
    wait_for(lambda: runs.get_run(db, run.id).stalled_at, what="that it stands still again")
    runs.request_stop(db, run.id)
    _wait_for_state(db, run, "stopped")


def test_a_frozen_trainer_is_ended_where_the_rules_say_so(
    db: Database, run: Run, dispatch: MakeDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWGRPO_BEAT_SECONDS", "0.2")
    _stuck(db, run, end=True)
    dispatch("polite")
    os.kill(_pid(db, run, "trainer.pid"), signal.SIGSTOP)
    assert "stood still and was ended" in (_wait_for_state(db, run, "failed").reason or "")
    assert [one.kind for one in runs.events(db, run.id) if one.kind == "stalled"] == ["stalled"]
    assert_all_gone(db, run)


def test_a_run_that_waits_for_people_does_not_stand_still(
    db: Database, run: Run, dispatch: MakeDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWGRPO_BEAT_SECONDS", "0.1")
    dispatch("polite")
    _pid(db, run, "trainer.pid")
    _wait_for_state(db, run, "running")
    assert runs.beat(db, run.id, 1, phase="waiting for ratings: 0 of 4 groups are rated")
    _stuck(db, run)
    time.sleep(2.0)
    assert runs.get_run(db, run.id).stalled_at is None

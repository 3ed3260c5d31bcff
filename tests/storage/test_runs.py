"""The states of a run: only known moves, only by the current attempt, each with its event."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from storage import checkpoints, runs
from storage.engine import Database, open_database
from storage.errors import StaleAttemptError
from storage.models import Checkpoint, Run, RunState
from tests.claims import claim_at_once

STATES: tuple[RunState, ...] = get_args(RunState)


def start(db: Database, run: Run) -> int:
    """Claims the run and lets it run; returns the attempt."""
    claimed = runs.claim_run(db, host="here", boot_id="boot")
    assert claimed is not None
    assert claimed.id == run.id
    assert runs.move(db, run.id, to="running", from_states=("starting",), attempt=claimed.attempt)
    return claimed.attempt


def commit(db: Database, run: Run, attempt: int, update: int, sha256: str = "a" * 64) -> Checkpoint:
    path = f"runs/{run.id}/checkpoints/{update:06d}"
    return checkpoints.commit_checkpoint(
        db, run_id=run.id, attempt=attempt, update=update, name=f"first {update}", path=path, sha256=sha256
    )


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"name": " "}, ValueError, "no name"),
        ({"owner_id": "nobody"}, LookupError, "no user"),
        ({"parent_checkpoint_id": "nothing"}, LookupError, "no checkpoint"),
        ({"config": {"rate": float("nan")}}, ValueError, "finite"),
    ],
)
def test_a_run_that_cannot_start_is_refused_in_words(
    db: Database, base: Checkpoint, change: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    wanted: dict[str, Any] = {"name": "a", "owner_id": "local", "parent_checkpoint_id": base.id}
    wanted["config"] = {}
    with pytest.raises(error, match=sentence):
        runs.create_run(db, **wanted | change)
    checkpoints.mark_checkpoint(db, base.id, "pruned")
    with pytest.raises(LookupError, match="are pruned"):
        runs.create_run(db, **wanted)
    assert runs.list_runs(db) == []


def test_the_first_beat_and_the_attempt_come_with_the_claim(db: Database, run: Run) -> None:
    assert runs.beat_of(db, run.id) is None
    claimed = runs.claim_run(db, host="here", boot_id="boot")
    assert claimed is not None
    beat = runs.beat_of(db, run.id)
    assert beat is not None
    assert (beat.attempt, beat.update, beat.num_updates, beat.phase) == (1, 0, 4, "starting")
    assert [(row.attempt, row.host, row.pid) for row in runs.attempts_of(db, run.id)] == [(1, "here", None)]


def test_one_run_at_a_time_on_a_host_and_the_oldest_first(db: Database, base: Checkpoint, run: Run) -> None:
    wanted: dict[str, Any] = {"owner_id": "local", "parent_checkpoint_id": base.id, "config": {}}
    second = runs.create_run(db, name="second", **wanted)
    start(db, run)
    assert runs.claim_run(db, host="here", boot_id="boot") is None
    assert [row.id for row in runs.active_runs(db, "here")] == [run.id]
    elsewhere = runs.claim_run(db, host="there", boot_id="boot")
    assert elsewhere is not None
    assert elsewhere.id == second.id


def test_an_unknown_move_is_refused_and_a_late_one_changes_nothing(db: Database, run: Run) -> None:
    with pytest.raises(ValueError, match="cannot go from queued to completed"):
        runs.move(db, run.id, to="completed", from_states=("queued",))
    attempt = start(db, run)
    assert runs.move(db, run.id, to="completed", from_states=("running",), attempt=attempt)
    before = runs.events(db, run.id)
    assert not runs.move(db, run.id, to="lost", from_states=("running", "starting"))
    assert len(runs.events(db, run.id)) == len(before)
    with pytest.raises(ValueError, match="run 1 is completed"):
        runs.resume_run(db, run.id)


def test_an_earlier_attempt_can_change_nothing(db: Database, run: Run) -> None:
    old = start(db, run)
    assert runs.move(db, run.id, to="lost", from_states=("running",))
    runs.resume_run(db, run.id)
    new = start(db, run)
    assert new == old + 1
    assert not runs.move(db, run.id, to="failed", from_states=("running",), attempt=old)
    assert not runs.beat(db, run.id, old, 3, 4, "updating")
    assert not runs.record_metrics(db, run.id, old, 3, {"reward": 1.0})
    with pytest.raises(StaleAttemptError, match="attempt 2, not 1"):
        commit(db, run, old, 3)
    with pytest.raises(StaleAttemptError, match="this process must end"):
        runs.record_event(db, run.id, old, "warning", "late")
    assert runs.get_run(db, run.id).state == "running"
    assert runs.metrics_since(db, run.id, -1) == []
    assert checkpoints.checkpoints_of_run(db, run.id) == []


def test_a_checkpoint_of_an_update_is_one_row_however_often_it_is_made(db: Database, run: Run) -> None:
    attempt = start(db, run)
    first = commit(db, run, attempt, 2)
    checkpoints.mark_checkpoint(db, first.id, "bad")
    again = commit(db, run, attempt, 2, "b" * 64)
    assert (again.id, again.sha256, again.state) == (first.id, "b" * 64, "committed")
    assert (again.parent_id, again.base_model_id) == (run.parent_checkpoint_id, first.base_model_id)


def test_metrics_of_a_repeated_update_replace_the_earlier_ones(db: Database, run: Run) -> None:
    attempt = start(db, run)
    for value in (0.25, 0.5):
        assert runs.record_metrics(db, run.id, attempt, 1, {"reward": value, "kl": float("inf")})
    assert runs.record_metrics(db, run.id, attempt, 2, {"reward": 0.75})
    assert [(row.update, row.value) for row in runs.metrics_since(db, run.id, -1)] == [(1, 0.5), (2, 0.75)]
    assert [row.update for row in runs.metrics_since(db, run.id, 1)] == [2]


def test_a_stop_reaches_a_run_in_any_state(db: Database, run: Run) -> None:
    attempt = start(db, run)
    for _ in range(2):
        assert runs.request_stop(db, run.id).state == "running"
    assert runs.stop_requested(db, run.id)
    assert [event.kind for event in runs.events(db, run.id)].count("stop_requested") == 1
    assert runs.move(db, run.id, to="paused", from_states=("running",), attempt=attempt, reason="disk")
    assert runs.request_stop(db, run.id).state == "stopped"
    assert runs.resume_run(db, run.id).stop_requested_at is None
    assert runs.request_stop(db, run.id).state == "canceled"
    assert runs.request_stop(db, run.id).state == "canceled"


def test_a_beat_without_words_keeps_what_was_said(db: Database, run: Run) -> None:
    attempt = start(db, run)
    assert runs.beat(db, run.id, attempt, 2, 4, "updating", 1.5)
    before = runs.beat_of(db, run.id)
    assert runs.beat(db, run.id, attempt)
    after = runs.beat_of(db, run.id)
    assert before is not None
    assert after is not None
    assert (after.update, after.phase, after.seconds_per_update) == (2, "updating", 1.5)
    assert after.beat_at >= before.beat_at


def test_the_first_word_about_the_end_of_an_attempt_stays(db: Database, run: Run) -> None:
    attempt = start(db, run)
    runs.record_attempt(db, run.id, attempt, pid=12, pid_start=34)
    runs.end_attempt(db, run.id, attempt, signal=9, reason="killed by SIGKILL")
    runs.end_attempt(db, run.id, attempt, exit_code=0)
    (row,) = runs.attempts_of(db, run.id)
    assert (row.pid, row.pid_start, row.signal, row.exit_code) == (12, 34, 9, None)
    with pytest.raises(LookupError, match="no attempt"):
        runs.end_attempt(db, run.id, attempt + 1)


def test_sixteen_processes_claim_each_run_once(db: Database) -> None:
    claim_at_once(db, None, processes=16, each=2)


def test_four_processes_claim_twenty_runs_each(db: Database) -> None:
    claim_at_once(db, None, processes=4, each=20)


class RunLife(RuleBasedStateMachine):
    """Dispatcher, shims (also dead ones of earlier attempts) and a person act in any order on one run."""

    database: Database

    @initialize()
    def begin(self) -> None:
        self.db = RunLife.database
        base = checkpoints.register_base(self.db, name="starter", source="x", family="sdxl")
        wanted: dict[str, Any] = {"owner_id": "local", "parent_checkpoint_id": base.id, "config": {}}
        self.run_id = runs.create_run(self.db, name="a", **wanted).id
        self.host = self.run_id  # a host of its own, so that other examples' runs do not occupy it
        self.state: RunState = "queued"
        self.attempt = 0
        self.stop = False
        self.moves = 0

    def _went(self, to: RunState) -> None:
        self.state, self.moves = to, self.moves + 1
        self.stop = self.stop and to != "queued"

    @precondition(lambda self: self.state == "queued")
    @rule()
    def claim(self) -> None:
        claimed = runs.claim_run(self.db, host=self.host, boot_id="boot")
        while claimed is not None and claimed.id != self.run_id:  # left queued by an earlier example
            runs.move(self.db, claimed.id, to="failed", from_states=("starting",))
            claimed = runs.claim_run(self.db, host=self.host, boot_id="boot")
        assert claimed is not None
        self.attempt += 1
        self._went("starting")

    @rule(to=st.sampled_from(STATES), behind=st.integers(0, 2))
    def move(self, to: RunState, behind: int) -> None:
        sources = tuple(
            state for state in STATES if to in runs.MOVES[state] and to not in ("starting", "queued")
        )
        may = self.state in sources and behind == 0
        attempt = self.attempt - behind
        assert runs.move(self.db, self.run_id, to=to, from_states=sources, attempt=attempt) is may
        if may:
            self._went(to)

    @rule(behind=st.integers(0, 2))
    def write(self, behind: int) -> None:
        may = self.state in runs.ACTIVE and behind == 0
        attempt = self.attempt - behind
        assert runs.beat(self.db, self.run_id, attempt, 1, 4, "x") is may
        assert runs.record_metrics(self.db, self.run_id, attempt, 1, {"reward": float(attempt)}) is may

    @rule()
    def ask_to_stop(self) -> None:
        runs.request_stop(self.db, self.run_id)
        if self.state in runs.ACTIVE:
            self.stop = True
        elif self.state in ("queued", "paused"):
            self._went("canceled" if self.state == "queued" else "stopped")

    @rule()
    def resume(self) -> None:
        if self.state in runs.RESUMABLE:
            runs.resume_run(self.db, self.run_id)
            self._went("queued")
        else:
            with pytest.raises(ValueError, match="can be resumed"):
                runs.resume_run(self.db, self.run_id)

    @invariant()
    def rows_say_what_happened(self) -> None:
        run = runs.get_run(self.db, self.run_id)
        assert (run.state, run.attempt, run.version) == (self.state, self.attempt, self.moves)
        assert (run.stop_requested_at is not None) is self.stop
        assert (run.finished_at is not None) is (self.state in runs.ENDED)
        history = [event for event in runs.events(self.db, self.run_id) if event.kind == "state"]
        assert [event.to_state for event in history][-1:] == ([self.state] if self.moves else [])
        assert all(event.to_state in runs.MOVES[event.from_state] for event in history)  # type: ignore[index]
        assert len(runs.attempts_of(self.db, self.run_id)) == self.attempt


def test_any_order_of_claims_moves_stops_and_resumes_keeps_the_rules(tmp_path: Path) -> None:
    RunLife.database = open_database(tmp_path / "home")
    few = settings(max_examples=15, stateful_step_count=15, deadline=None, database=None)
    run_state_machine_as_test(RunLife, settings=few)
    RunLife.database.close()


def test_every_state_has_its_moves_and_every_move_a_state() -> None:
    assert set(runs.MOVES) == set(STATES)
    assert {to for targets in runs.MOVES.values() for to in targets} | {"queued"} <= set(STATES)
    assert all("queued" in runs.MOVES[state] for state in runs.RESUMABLE)


def test_going_back_is_asked_for_with_the_resume_and_only_to_a_checkpoint_of_the_run(
    db: Database, base: Checkpoint
) -> None:
    run = runs.create_run(
        db, name="mine", owner_id="local", parent_checkpoint_id=base.id, config={"num_updates": 4}
    )
    runs.claim_run(db, host="h", boot_id="b")
    runs.move(db, run.id, to="running", from_states=("starting",), attempt=1)
    with pytest.raises(ValueError, match="is running"):
        runs.resume_run(db, run.id, from_update=2)
    runs.record_event(db, run.id, 1, "pause", "Look at this.", {"update": 3})
    runs.move(db, run.id, to="paused", from_states=("running",), attempt=1)
    with pytest.raises(LookupError, match="no checkpoint of update 2"):
        runs.resume_run(db, run.id, from_update=2)
    assert runs.get_run(db, run.id).state == "paused"
    checkpoints.commit_checkpoint(
        db, run_id=run.id, attempt=1, update=2, name="update 2", path="p", sha256="0" * 64
    )
    assert runs.resume_run(db, run.id, from_update=2).state == "queued"
    said = {event.kind: event.payload for event in runs.events(db, run.id) if event.payload}
    assert said == {"pause": {"update": 3}, "go_back": {"update": 2}}

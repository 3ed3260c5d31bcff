"""Runs: intent, states, and the proof that the writer is the current attempt (reliability.md 8.3).

Only the run's own shim says how it ended, only the dispatcher says starting and lost; people set flags and
resume.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import CursorResult, select, update
from sqlalchemy.orm import Session

from storage import following, stalls
from storage.engine import Database
from storage.errors import StaleAttemptError
from storage.lookup import config_hash, next_number, required
from storage.masking import mask
from storage.models import Checkpoint, Metric, PromptSet, Run, RunAttempt, RunBeat, RunEvent, RunState, User
from storage.types import utc_now

MOVES: dict[RunState, frozenset[RunState]] = {
    "queued": frozenset({"starting", "canceled"}),
    "starting": frozenset({"running", "stopping", "stopped", "failed", "lost"}),
    "running": frozenset({"stopping", "stopped", "paused", "completed", "failed", "lost"}),
    "stopping": frozenset({"stopped", "completed", "failed", "lost"}),
    "stopped": frozenset({"queued"}),
    "paused": frozenset({"queued", "stopped"}),
    "failed": frozenset({"queued"}),
    "lost": frozenset({"queued"}),
    "completed": frozenset({"queued"}),
    "canceled": frozenset(),
}
"""State to the states that may follow it. A completed run is queued again only where it is extended."""
ACTIVE: tuple[RunState, ...] = ("starting", "running", "stopping")
"""States with processes; one run per host at a time."""
QUEUED: tuple[RunState, ...] = ("queued",)
PAUSED: tuple[RunState, ...] = ("paused",)
RESUMABLE: tuple[RunState, ...] = ("stopped", "failed", "lost", "paused")
ENDED: frozenset[RunState] = frozenset({"stopped", "completed", "failed", "lost", "canceled"})
AT_REST: frozenset[RunState] = ENDED | {"paused"}
"""Only a person moves a run from here (or, from `lost`, the dispatcher that wrote it)."""
_NO_WISHES = dict.fromkeys(("pause_requested_at", "save_requested_at", "sample_requested_at"))


def create_run(
    db: Database,
    *,
    name: str,
    owner_id: str,
    parent_checkpoint_id: str,
    config: dict[str, Any],
    prompt_set_id: str | None = None,
    follows_id: str | None = None,
) -> Run:
    """Queues a run. `config` is a RunConfig's dump, stored word for word.

    Args:
        prompt_set_id: the version of the set that its prompts were taken from.
        follows_id: the run whose last checkpoint it starts from, once that one is complete; until then the
            parent stands for the base (`storage.following`).

    Raises:
        ValueError: empty name; a run to follow that cannot be followed. LookupError: unknown owner, set or
            run; unknown, damaged or pruned checkpoint.
    """
    if not name.strip():
        raise ValueError("the run has no name: give it one")
    with db.write() as session:
        required(session, User, owner_id, "user")
        parent = required(session, Checkpoint, parent_checkpoint_id, "checkpoint")
        if parent.state != "committed":
            raise LookupError(f"the files of checkpoint {parent.name} are {parent.state}: choose another one")
        if prompt_set_id is not None:
            required(session, PromptSet, prompt_set_id, "prompt set")
        if follows_id is not None:
            following.check_follows(session, follows_id, parent)
        run = Run(name=name.strip(), owner_id=owner_id, parent_checkpoint_id=parent.id, config=config)
        run.prompt_set_id, run.follows_id = prompt_set_id, follows_id
        run.config_hash, run.number = config_hash(config), next_number(session, Run.number)
        session.add(run)
        session.flush()
        session.add(RunEvent(run_id=run.id, attempt=0, kind="created", to_state="queued"))
        return run


def get_run(db: Database, run_id: str) -> Run:
    """Raises LookupError when there is none with this id."""
    with db.read() as session:
        return required(session, Run, run_id, "run")


def list_runs(db: Database) -> list[Run]:
    """All runs, newest first."""
    with db.read() as session:
        return list(session.scalars(select(Run).order_by(Run.number.desc())))


def active_runs(db: Database, host: str) -> list[Run]:
    """Runs that have, or should have, processes on this host."""
    with db.read() as session:
        return _active(session, host)


def _active(session: Session, host: str) -> list[Run]:
    joined = (RunAttempt.run_id == Run.id) & (RunAttempt.attempt == Run.attempt)
    query = select(Run).join(RunAttempt, joined).where(Run.state.in_(ACTIVE), RunAttempt.host == host)
    return list(session.scalars(query.order_by(Run.number)))


def move(
    db: Database,
    run_id: str,
    *,
    to: RunState,
    from_states: tuple[RunState, ...] | Collection[RunState],
    attempt: int | None = None,
    reason: str | None = None,
) -> bool:
    """Moves a run, with its event, in one transaction; False when somebody else moved it first.

    Args:
        attempt: what a process of the run must give; a process of an earlier attempt changes nothing.

    Raises:
        ValueError: a move that the table does not know. LookupError: no such run.
    """
    for state in from_states:
        if to not in MOVES[state]:
            raise ValueError(f"a run cannot go from {state} to {to}: it can go to {sorted(MOVES[state])}")
    with db.write() as session:
        return move_in(session, required(session, Run, run_id, "run"), to, from_states, attempt, reason)


def move_in(
    session: Session,
    run: Run,
    to: RunState,
    from_states: tuple[RunState, ...] | Collection[RunState],
    attempt: int | None = None,
    reason: str | None = None,
) -> bool:
    """`move` inside a transaction under way, for what is decided and done in one."""
    if run.state not in from_states or attempt not in (None, run.attempt):
        return False
    was, now, reason = run.state, utc_now(), None if reason is None else mask(reason)
    values: dict[str, Any] = {"state": to, "version": run.version + 1, "reason": reason, "stalled_at": None}
    if to == "queued":
        values |= {"stop_requested_at": None, "finished_at": None}
    if to in AT_REST - {"lost"}:  # a lost run is queued again by itself, and still asked for the same
        values |= _NO_WISHES
    if to == "running" and run.started_at is None:
        values["started_at"] = now
    if to in ENDED:
        values["finished_at"] = now
    # Certain under SQLite's lock; where writers run side by side the version decides who was first.
    seen = Run.id == run.id, Run.version == run.version
    result = session.execute(update(Run).where(*seen).values(**values))
    if not isinstance(result, CursorResult) or result.rowcount != 1:
        return False
    session.refresh(run)
    event = RunEvent(run_id=run.id, attempt=run.attempt, at=now, kind="state", from_state=was, to_state=to)
    event.detail = reason or ""
    session.add(event)
    return True


def claim_run(db: Database, *, host: str, boot_id: str) -> Run | None:
    """The first queued run that waits for no other, now starting, with attempt and first beat; None while
    the host is busy. First is what has the highest priority, then the oldest.
    """
    order = Run.priority.desc(), Run.number
    query = select(Run).where(Run.state == "queued", following.may_start()).order_by(*order).limit(1)
    with db.read() as session:
        if session.scalar(query) is None:
            return None
    with db.write() as session:
        run = session.scalar(query)
        if run is None or _active(session, host):
            return None
        following.take_parent(session, run)
        run.attempt += 1
        session.flush()
        move_in(session, run, "starting", QUEUED)
        session.add(RunAttempt(run_id=run.id, attempt=run.attempt, host=host, boot_id=boot_id))
        session.merge(RunBeat(run_id=run.id, **_first_beat(session, run)))
        return run


def _first_beat(session: Session, run: Run) -> dict[str, Any]:
    earlier = session.get(RunBeat, run.id)
    done, total = (
        (earlier.update, earlier.num_updates) if earlier else (0, int(run.config.get("num_updates", 0)))
    )
    beat = {"attempt": run.attempt, "beat_at": utc_now(), "phase": "starting", "seconds_per_update": None}
    return beat | {"update": done, "num_updates": total, "progress_at": utc_now()}


def record_attempt(db: Database, run_id: str, attempt: int, *, pid: int, pid_start: int | None) -> None:
    """Notes the process that owns this attempt."""
    with db.write() as session:
        row = required(session, RunAttempt, (run_id, attempt), "attempt")
        row.pid, row.pid_start = pid, pid_start


def end_attempt(
    db: Database,
    run_id: str,
    attempt: int,
    *,
    exit_code: int | None = None,
    signal: int | None = None,
    reason: str | None = None,
) -> None:
    """Notes how this attempt's processes ended; the first word stays."""
    with db.write() as session:
        row = required(session, RunAttempt, (run_id, attempt), "attempt")
        if row.ended_at is None:
            row.ended_at, row.exit_code, row.signal = utc_now(), exit_code, signal
            row.reason = None if reason is None else mask(reason)


def attempts_of(db: Database, run_id: str) -> list[RunAttempt]:
    """All starts of a run, oldest first."""
    with db.read() as session:
        query = select(RunAttempt).where(RunAttempt.run_id == run_id).order_by(RunAttempt.attempt)
        return list(session.scalars(query))


def beat(
    db: Database,
    run_id: str,
    attempt: int,
    update: int | None = None,
    num_updates: int | None = None,
    phase: str | None = None,
    seconds_per_update: float | None = None,
) -> bool:
    """A sign of life; None keeps what is there. False when this attempt is no longer the current one."""
    said = {
        "update": update,
        "num_updates": num_updates,
        "phase": phase,
        "seconds_per_update": seconds_per_update,
    }
    with db.write() as session:
        if not _is_current(session, run_id, attempt):
            return False
        row = required(session, RunBeat, run_id, "beat")
        row.beat_at = utc_now()
        if (update not in (None, row.update)) or (phase not in (None, row.phase)):
            stalls.note_progress(session, required(session, Run, run_id, "run"), row, row.beat_at)
        for name, value in said.items():
            if value is not None:
                setattr(row, name, value)
        return True


def _is_current(session: Session, run_id: str, attempt: int) -> bool:
    run = required(session, Run, run_id, "run")
    return run.attempt == attempt and run.state in ACTIVE


def request_stop(db: Database, run_id: str) -> Run:
    """Asks a run to stop: a waiting one is canceled, a paused one stopped, an active one gets the flag."""
    with db.write() as session:
        run = required(session, Run, run_id, "run")
        if run.state == "queued":
            move_in(session, run, "canceled", QUEUED, reason="canceled before it started")
        elif run.state == "paused":
            move_in(session, run, "stopped", PAUSED, reason="stopped by request")
        elif run.state in ACTIVE and run.stop_requested_at is None:
            run.stop_requested_at = utc_now()
            session.add(RunEvent(run_id=run.id, attempt=run.attempt, kind="stop_requested"))
        return run


def stop_requested(db: Database, run_id: str) -> bool:
    """Whether somebody asked this run to stop since it was last queued."""
    return get_run(db, run_id).stop_requested_at is not None


def resume_run(db: Database, run_id: str, *, from_update: int | None = None) -> Run:
    """Queues a stopped, failed, lost or paused run again: an alarm that paused it is let pass.

    Args:
        from_update: go on from the weights of this checkpoint of the run, at half the learning rate.

    Raises:
        ValueError: the run is in another state. LookupError: it has no such checkpoint.
    """
    with db.write() as session:
        run = required(session, Run, run_id, "run")
        if run.state not in RESUMABLE:
            raise ValueError(
                f"run {run.number} is {run.state}: only a {', '.join(RESUMABLE)} run can be resumed"
            )
        if from_update is not None:
            _ask_to_go_back(session, run, from_update)
        move_in(session, run, "queued", RESUMABLE)
        return run


def _ask_to_go_back(session: Session, run: Run, update: int) -> None:
    there = Checkpoint.run_id == run.id, Checkpoint.update == update, Checkpoint.state == "committed"
    if session.scalar(select(Checkpoint).where(*there)) is None:
        raise LookupError(f"run {run.number} has no checkpoint of update {update}: choose one of its own")
    event = RunEvent(run_id=run.id, attempt=run.attempt, kind="go_back", payload={"update": update})
    event.detail = f"asked to go on from update {update}"
    session.add(event)


def record_metrics(db: Database, run_id: str, attempt: int, update: int, values: Mapping[str, float]) -> bool:
    """Keeps one point of each curve, replacing points of the same update; False for an attempt that is over.

    A value that is not finite leaves a gap: JSON and PostgreSQL's clients have no form for it.
    """
    with db.write() as session:
        if not _is_current(session, run_id, attempt):
            return False
        for name, value in values.items():
            if math.isfinite(value):
                session.merge(Metric(run_id=run_id, update=update, name=name, value=float(value)))
        return True


def metrics_since(db: Database, run_id: str, update: int) -> list[Metric]:
    """Points after `update` (-1 for all), by update and name."""
    query = select(Metric).where(Metric.run_id == run_id, Metric.update > update)
    with db.read() as session:
        return list(session.scalars(query.order_by(Metric.update, Metric.name)))


def record_event(
    db: Database, run_id: str, attempt: int, kind: str, detail: str, payload: dict[str, Any] | None = None
) -> None:
    """Adds a warning or a note to the history. Raises StaleAttemptError for an attempt that is over."""
    with db.write() as session:
        run = required(session, Run, run_id, "run")
        if run.attempt != attempt:
            raise StaleAttemptError(
                f"run {run.number} is in attempt {run.attempt}, not {attempt}: this process must end"
            )
        session.add(RunEvent(run_id=run_id, attempt=attempt, kind=kind, detail=mask(detail), payload=payload))


def events(db: Database, run_id: str) -> list[RunEvent]:
    """The whole history, oldest first."""
    with db.read() as session:
        return list(session.scalars(select(RunEvent).where(RunEvent.run_id == run_id).order_by(RunEvent.id)))


def beat_of(db: Database, run_id: str) -> RunBeat | None:
    """The last sign of life; None before the first start."""
    with db.read() as session:
        return session.get(RunBeat, run_id)

"""Runs that follow others, as the second step of a recipe does: they wait, then start from what those made.

Such a run names a parent checkpoint like any other; until its first start that is the one that the other run
began from, and with the claim it becomes the last one that the other made.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, exists, or_, select
from sqlalchemy.orm import Session, aliased

from storage.engine import Database
from storage.lookup import required
from storage.models import Checkpoint, Run, RunEvent

_OTHER = aliased(Run)


def may_start() -> ColumnElement[bool]:
    """Of a queued run: it follows none, has started before, or the other is complete with a checkpoint."""
    made = select(Checkpoint.id).where(Checkpoint.run_id == _OTHER.id, Checkpoint.state == "committed")
    is_done = exists().where(_OTHER.id == Run.follows_id, _OTHER.state == "completed", made.exists())
    return or_(Run.follows_id.is_(None), Run.attempt > 0, is_done)


def check_follows(session: Session, follows_id: str, parent: Checkpoint) -> None:
    """Raises LookupError for an unknown run, ValueError for one that was canceled or has another base."""
    other = required(session, Run, follows_id, "run")
    if other.state == "canceled":
        raise ValueError(f"run {other.number} was canceled, so nothing can follow it: choose another run")
    theirs = required(session, Checkpoint, other.parent_checkpoint_id, "checkpoint")
    if theirs.base_model_id != parent.base_model_id:
        raise ValueError(
            f"run {other.number} tunes another base than {parent.name}: a run that follows it has its base"
        )


def take_parent(session: Session, run: Run) -> None:
    """At the first claim of a run that follows another: its parent is the last checkpoint of that one."""
    if run.follows_id is None or run.attempt > 0:
        return
    last = _last_checkpoint(session, run.follows_id)
    assert last is not None  # `may_start` looked, in this transaction
    run.parent_checkpoint_id = last.id
    event = RunEvent(run_id=run.id, attempt=1, kind="follows", payload={"checkpoint": last.id})
    event.detail = f"starts from {last.name}"
    session.add(event)


def _last_checkpoint(session: Session, run_id: str) -> Checkpoint | None:
    usable = Checkpoint.run_id == run_id, Checkpoint.state == "committed"
    return session.scalar(select(Checkpoint).where(*usable).order_by(Checkpoint.update.desc()).limit(1))


def followers_of(db: Database, run_id: str) -> Sequence[Run]:
    """The runs that follow this one, oldest first."""
    with db.read() as session:
        return list(session.scalars(select(Run).where(Run.follows_id == run_id).order_by(Run.number)))


def why_waiting(db: Database, run_id: str) -> str | None:
    """What a queued run waits for beside its place in the queue, as a sentence; None where it is nothing."""
    with db.read() as session:
        run = required(session, Run, run_id, "run")
        if run.state != "queued" or run.follows_id is None or run.attempt > 0:
            return None
        other = required(session, Run, run.follows_id, "run")
        if other.state == "completed" and _last_checkpoint(session, other.id) is not None:
            return None
        return _sentence(other)


def _sentence(other: Run) -> str:
    name = f"run {other.number} ({other.name})"
    if other.state == "completed":
        return f"Waits: {name} is complete, but its files are gone or damaged. Cancel this run."
    if other.state == "canceled":
        return f"Waits for {name}, which was canceled before it started. Cancel this run."
    if other.state in ("queued", "starting", "running"):
        return f"Waits until {name} is complete, and starts from its last checkpoint."
    return f"Waits for {name}, which is {other.state}. Resume that one and this goes on, or cancel this one."

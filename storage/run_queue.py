"""The queue of runs: which comes next, and what a person changes about that."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage import audit
from storage.engine import Database
from storage.lookup import required
from storage.models import Run, User

Way = Literal["sooner", "later"]


def queued_runs(db: Database) -> list[Run]:
    """Runs that wait, the next one first; some of them may wait for another run besides."""
    with db.read() as session:
        return _queue(session)


def _queue(session: Session) -> list[Run]:
    order = Run.priority.desc(), Run.number
    return list(session.scalars(select(Run).where(Run.state == "queued").order_by(*order)))


def place_of(db: Database, run_id: str) -> tuple[int, int] | None:
    """(place, how many wait), counted from 1; None for a run that does not wait."""
    ids = [run.id for run in queued_runs(db)]
    return (ids.index(run_id) + 1, len(ids)) if run_id in ids else None


def move_in_queue(db: Database, run_id: str, way: Way, by: str = "local") -> Run:
    """Lets a waiting run change places with the one before it, or after it; at the end nothing changes.

    Only those priorities change that must, and they only rise. Audited.

    Raises:
        ValueError: it does not wait. LookupError: no such run or user.
    """
    with db.write() as session:
        run = _waiting(session, run_id, by)
        queue = _queue(session)
        place = queue.index(run)
        other = place - 1 if way == "sooner" else place + 1
        if not 0 <= other < len(queue):
            return run
        queue[place], queue[other] = queue[other], queue[place]
        _hold(queue)
        detail = {"run": run.number, "past": queue[place].number, "queue": [one.number for one in queue]}
        audit.note(session, by, f"run.{way}", run.id, detail)
        return run


def _hold(queue: Sequence[Run]) -> None:
    """Raises priorities where this order needs it."""
    for ahead, behind in reversed(list(pairwise(queue))):
        ahead.priority = max(ahead.priority, behind.priority + (ahead.number > behind.number))


def _waiting(session: Session, run_id: str, by: str) -> Run:
    run = required(session, Run, run_id, "run")
    required(session, User, by, "user")
    if run.state != "queued":
        raise ValueError(f"run {run.number} is {run.state}: only a run that waits has a place in the queue")
    return run

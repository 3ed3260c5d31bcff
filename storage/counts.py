"""How much there is of what people wait for, in a few cheap queries, for who operates the studio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from storage.engine import Database
from storage.models import ImageGroup, RatingEvent, Run, RunEvent, WorkerBeat
from storage.models_judging import BlindVote, Job
from storage.models_studio import Audit
from storage.types import utc_now


@dataclass(frozen=True)
class Counts:
    """What stands in the rows now.

    Attributes:
        groups, runs, jobs: state to how many.
        ratings, blind_votes: ever given, what was undone included.
        worker_ages: worker to the seconds since its last sign of life; of those that have not said goodbye.
    """

    groups: Mapping[str, int]
    runs: Mapping[str, int]
    jobs: Mapping[str, int]
    ratings: int
    blind_votes: int
    worker_ages: Mapping[str, float]

    @property
    def queue_length(self) -> int:
        """Groups and jobs that the engine has still to do, and runs that have still to begin."""
        return sum(states.get("queued", 0) for states in (self.groups, self.jobs, self.runs))


def count(db: Database) -> Counts:
    """Raises UnreadableError where the database cannot be read."""
    with db.read() as session:
        return Counts(
            _by_state(session, ImageGroup.state),
            _by_state(session, Run.state),
            _by_state(session, Job.state),
            session.scalar(select(func.count()).select_from(RatingEvent)) or 0,
            session.scalar(select(func.count()).select_from(BlindVote)) or 0,
            _worker_ages(session),
        )


def worker_ages(db: Database) -> Mapping[str, float]:
    """Of `Counts`, alone."""
    with db.read() as session:
        return _worker_ages(session)


def newest_row(db: Database) -> datetime | None:
    """When somebody last did something, or a run moved; None where nothing has happened yet."""
    columns = (Audit.at, RatingEvent.created_at, ImageGroup.created_at, RunEvent.at)
    with db.read() as session:
        times = [session.scalar(select(func.max(one))) for one in columns]
    return max((one for one in times if one is not None), default=None)


def check_reads(db: Database) -> None:
    """Raises UnreadableError where the database does not answer."""
    with db.read() as session:
        session.execute(text("SELECT 1"))


def _by_state(session: Session, state: Any) -> dict[str, int]:
    rows = session.execute(select(state, func.count()).group_by(state))
    return {str(name): int(number) for name, number in rows}


def _worker_ages(session: Session) -> dict[str, float]:
    now = utc_now()
    beats = session.scalars(select(WorkerBeat).where(WorkerBeat.state != "stopped"))
    return {one.worker_id: (now - one.beat_at).total_seconds() for one in beats}

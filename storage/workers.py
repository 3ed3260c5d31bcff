"""Signs of life of the engine workers, for display."""

from __future__ import annotations

from sqlalchemy import select

from storage.engine import Database
from storage.masking import mask
from storage.models import WorkerBeat, WorkerState
from storage.types import utc_now


def worker_beat(db: Database, *, worker_id: str, pid: int, state: WorkerState, detail: str = "") -> None:
    """Says what a worker does now; one row per worker."""
    with db.write() as session:
        session.merge(
            WorkerBeat(worker_id=worker_id, pid=pid, state=state, detail=mask(detail), beat_at=utc_now())
        )


def worker_status(db: Database) -> list[WorkerBeat]:
    """All workers ever seen, the latest sign first."""
    with db.read() as session:
        return list(session.scalars(select(WorkerBeat).order_by(WorkerBeat.beat_at.desc())))

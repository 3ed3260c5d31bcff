"""Runs that live and get no further: since when, and that they move again."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from storage.engine import Database
from storage.lookup import required
from storage.models import Run, RunBeat, RunEvent
from storage.types import utc_now

STALLED, MOVING = "stalled", "moving"
"""Kinds of run events."""


def note_progress(session: Session, run: Run, beat: RunBeat, now: datetime) -> None:
    """A run has got further: it is stalled no more."""
    beat.progress_at = now
    if run.stalled_at is not None:
        minutes = (now - run.stalled_at).total_seconds() / 60
        run.stalled_at = None
        detail = f"It moves again, {minutes:.0f} min after it was found to stand still."
        session.add(RunEvent(run_id=run.id, attempt=run.attempt, kind=MOVING, detail=detail))


def mark_stalled(
    db: Database, run_id: str, attempt: int, detail: str, payload: dict[str, Any] | None = None
) -> bool:
    """Says that a run stands still, once; False where it is said already or the attempt is over."""
    with db.write() as session:
        run = required(session, Run, run_id, "run")
        if run.attempt != attempt or run.state not in ("starting", "running") or run.stalled_at is not None:
            return False
        run.stalled_at = utc_now()
        event = RunEvent(run_id=run_id, attempt=attempt, kind=STALLED, detail=detail, payload=payload)
        session.add(event)
        return True

"""How the starts of a run went, for who decides whether it is started again by itself."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.engine import Database
from storage.models import Checkpoint, RunAttempt, RunEvent


def fruitless_attempts(db: Database, run_id: str) -> int:
    """The newest attempts in a row that made no new checkpoint, since a person last queued the run."""
    with db.read() as session:
        since = _queued_by_a_person(session, run_id)
        query = select(RunAttempt).where(RunAttempt.run_id == run_id, RunAttempt.attempt > since)
        attempts = list(session.scalars(query.order_by(RunAttempt.attempt.desc())))
        made = list(session.scalars(select(Checkpoint.created_at).where(Checkpoint.run_id == run_id)))
    count, until = 0, None
    for attempt in attempts:
        if any(at > attempt.started_at and (until is None or at <= until) for at in made):
            break
        count, until = count + 1, attempt.started_at
    return count


def _queued_by_a_person(session: Session, run_id: str) -> int:
    """The attempt after which a person last queued it; 0 where none did since it was made."""
    by_hand = RunEvent.to_state == "queued", RunEvent.from_state.is_not(None), RunEvent.from_state != "lost"
    query = select(RunEvent.attempt).where(RunEvent.run_id == run_id, *by_hand)
    return session.scalar(query.order_by(RunEvent.id.desc()).limit(1)) or 0


def last_ended(db: Database, host: str) -> RunAttempt | None:
    """The attempt of any run that ended last at this host."""
    ended = RunAttempt.host == host, RunAttempt.ended_at.is_not(None)
    with db.read() as session:
        return session.scalar(select(RunAttempt).where(*ended).order_by(RunAttempt.ended_at.desc()).limit(1))

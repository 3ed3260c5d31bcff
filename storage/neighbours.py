"""What other hosts that share the database have in work, and what is done with it once one has gone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import select, text, update

from storage import following
from storage.engine import Database
from storage.models import ImageGroup, Run, RunAttempt, RunBeat, WorkerBeat
from storage.models_judging import Job
from storage.runs import ACTIVE


def runs_elsewhere(db: Database, host: str) -> list[tuple[Run, RunAttempt, datetime]]:
    """Active runs of other hosts, each with its attempt and its last beat."""
    current = (RunAttempt.run_id == Run.id) & (RunAttempt.attempt == Run.attempt)
    query = select(Run, RunAttempt, RunBeat.beat_at).join(RunAttempt, current)
    query = query.join(RunBeat, RunBeat.run_id == Run.id)
    with db.read() as session:
        rows = session.execute(query.where(Run.state.in_(ACTIVE), RunAttempt.host != host))
        return [(run, attempt, beat_at) for run, attempt, beat_at in rows]


def busy_workers_elsewhere(db: Database, host: str) -> Mapping[str, datetime]:
    """Workers of other hosts that have a group or a job in work, each with its last beat."""
    having = [
        select(work.worker_id).where(work.state == "running", work.worker_id.is_not(None))
        for work in (ImageGroup, Job)
    ]
    query = select(WorkerBeat.worker_id, WorkerBeat.beat_at).where(
        WorkerBeat.worker_id.in_(having[0]) | WorkerBeat.worker_id.in_(having[1])
    )
    with db.read() as session:
        rows = session.execute(query).all()
    return {name: beat_at for name, beat_at in rows if not name.startswith(f"{host}:")}


def take_back(db: Database, worker_id: str, last_beat: datetime) -> bool:
    """Queues again what a worker that has gone had in work; False where it has said something since."""
    with db.write() as session:
        beat = session.get(WorkerBeat, worker_id)
        if beat is not None and beat.beat_at != last_beat:
            return False
        for work in (ImageGroup, Job):
            left = update(work).where(work.state == "running", work.worker_id == worker_id)
            session.execute(left.values(state="queued", phase=None, worker_id=None, started_at=None))
        return True


def waiting_runs(db: Database) -> list[Run]:
    """Queued runs that wait for no other run, oldest first."""
    query = select(Run).where(Run.state == "queued", following.may_start()).order_by(Run.number)
    with db.read() as session:
        return list(session.scalars(query))


def tear_up_tickets(db: Database, task: str, silent: timedelta) -> None:
    """Removes the tickets that hosts had drawn which gave no sign of life for so long, from the tables of
    Procrastinate."""
    with db.write() as session:
        session.execute(_TICKETS_OF_NOBODY, {"task": task, "silent": silent})


_TICKETS_OF_NOBODY = text("""
    DELETE FROM procrastinate_jobs AS ticket WHERE status = 'doing' AND task_name = :task AND NOT EXISTS (
        SELECT FROM procrastinate_workers AS host
        WHERE host.id = ticket.worker_id AND host.last_heartbeat > now() - CAST(:silent AS interval)
    )
""")

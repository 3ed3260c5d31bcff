"""Work of the engine that is no group, as rows: asked for here, claimed by a worker, its result kept."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from storage.engine import Database
from storage.lookup import next_number, required
from storage.masking import mask
from storage.models import User
from storage.models_judging import Job, JobState
from storage.types import utc_now

MAX_CLAIMS = 2
"""A job that outlived this many workers is failed instead of queued again."""


def request_job(db: Database, kind: str, payload: dict[str, Any], created_by: str = "local") -> Job:
    """Queues a job; LookupError for an unknown user."""
    job = Job(kind=kind, payload=payload, created_by=created_by)
    with db.write() as session:
        required(session, User, created_by, "user")
        job.seq = next_number(session, Job.seq)
        session.add(job)
    return job


def claim_job(db: Database, worker_id: str) -> Job | None:
    """The oldest queued job, now running at this worker."""
    query = select(Job).where(Job.state == "queued").order_by(Job.seq).limit(1)
    with db.read() as session:
        if session.scalar(query) is None:
            return None
    with db.write() as session:
        job = session.scalar(query)
        if job is not None:
            job.state, job.worker_id, job.started_at = "running", worker_id, utc_now()
            job.claims += 1
        return job


def report_progress(db: Database, job_id: str, phase: str, done: int, total: int) -> bool:
    """Says how far it is; False when the job is no longer running, so that work on it may stop."""
    return _change(db, job_id, ("running",), phase=phase, done=done, total=total)


def finish_job(db: Database, job_id: str, result: dict[str, Any]) -> bool:
    """running -> done, with what came out."""
    return _change(db, job_id, ("running",), state="done", phase=None, result=result, finished_at=utc_now())


def fail_job(db: Database, job_id: str, reason: str) -> bool:
    """queued or running -> failed, with a sentence for the page."""
    return _change(
        db,
        job_id,
        ("queued", "running"),
        state="failed",
        phase=None,
        reason=mask(reason),
        finished_at=utc_now(),
    )


def cancel_job(db: Database, job_id: str) -> bool:
    """queued or running -> canceled; a worker that is at it learns so from its next `report_progress`."""
    return _change(db, job_id, ("queued", "running"), state="canceled", phase=None, finished_at=utc_now())


def requeue_job(db: Database, job_id: str, *, died: bool) -> bool:
    """running -> queued, for a worker that ended; False when the job has ended or fails now.

    Args:
        died: the job may be what killed the worker: the second time it fails.
    """
    with db.write() as session:
        job = required(session, Job, job_id, "job")
        if job.state != "running":
            return False
        job.phase = None
        if not died:
            job.claims -= 1
        elif job.claims >= MAX_CLAIMS:
            job.state, job.finished_at = "failed", utc_now()
            job.reason = "the engine stopped twice while it did this: see its log, then ask for it again"
            return False
        job.state, job.worker_id, job.started_at = "queued", None, None
        return True


def orphaned_jobs(db: Database, worker_id: str) -> list[Job]:
    """Jobs that a worker left running; only for a worker that is known to be dead."""
    with db.read() as session:
        left = select(Job).where(Job.state == "running", Job.worker_id == worker_id).order_by(Job.seq)
        return list(session.scalars(left))


def get_job(db: Database, job_id: str) -> Job:
    """Raises LookupError when there is none with this id."""
    with db.read() as session:
        return required(session, Job, job_id, "job")


def recent_jobs(db: Database, kind: str, limit: int = 20) -> list[Job]:
    """Newest first."""
    with db.read() as session:
        return list(
            session.scalars(select(Job).where(Job.kind == kind).order_by(Job.seq.desc()).limit(limit))
        )


def open_jobs(db: Database) -> list[Job]:
    """Those at work or waiting, in the order in which they are taken up."""
    query = select(Job).where(Job.state.in_(("running", "queued"))).order_by(Job.state.desc(), Job.seq)
    with db.read() as session:
        return list(session.scalars(query))


def jobs_ahead(db: Database, job_id: str) -> int:
    """How many queued jobs come before this one; 0 for the next one and for those past the queue."""
    with db.read() as session:
        job = required(session, Job, job_id, "job")
        if job.state != "queued":
            return 0
        return session.scalar(select(func.count()).where(Job.state == "queued", Job.seq < job.seq)) or 0


def _change(db: Database, job_id: str, from_states: tuple[JobState, ...], **values: Any) -> bool:
    with db.write() as session:
        job = required(session, Job, job_id, "job")
        if job.state not in from_states:
            return False
        for name, value in values.items():
            setattr(job, name, value)
        return True

"""All ratings as one .zip for other programs: asked for as a job, kept until a newer one is there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from storage import audit, exports
from storage.engine import Database
from storage.jobs import get_job, recent_jobs, request_job
from storage.models_judging import Job

KIND: Final = "ratings_out"
"""Of the job that writes one; its result is {"groups", "pairs", "images", "events", "people", "missing"}."""
FORMS: Final = ("all", "pickapic", "hpd", "imagereward", "trl", "raw")
"""What an archive may be asked to have; each has every rating event and the images as well."""
_LOOKED_AT = 20
_ACTIVE = ("queued", "running")


@dataclass(frozen=True)
class RatingsFile:
    """An archive that is there."""

    job: Job
    size: int
    """Bytes."""
    written: datetime | None


def place_of(home: Path, job_id: str) -> Path:
    """Where the archive of a job lies, or will."""
    return home / exports.FOLDER / f"ratings-{job_id}.zip"


def request_ratings_file(db: Database, form: str, by: str = "local") -> Job:
    """Queues the writing of an archive; one at a time.

    Raises ValueError for no such format, and while another one is being written.
    """
    if form not in FORMS:
        raise ValueError(f"a format is {', '.join(FORMS)}, got {form}")
    newest = newest_job(db)
    if newest is not None and newest.state in _ACTIVE:
        raise ValueError("the ratings are being written already: wait for that file, or cancel it")
    return request_job(db, KIND, {"format": form}, by)


def newest_job(db: Database) -> Job | None:
    """What became of the last wish; None before the first."""
    return next(iter(recent_jobs(db, KIND, 1)), None)


def ratings_file(db: Database) -> RatingsFile | None:
    """The newest archive that is there."""
    for job in recent_jobs(db, KIND, _LOOKED_AT):
        path = place_of(db.home, job.id)
        if job.state == "done" and path.is_file():
            return RatingsFile(job, path.stat().st_size, job.finished_at)
    return None


def path_of(db: Database, job_id: str) -> Path:
    """The archive of a job; LookupError with a sentence where there is none."""
    job = get_job(db, job_id)
    path = place_of(db.home, job.id)
    if job.kind != KIND or not path.is_file():
        raise LookupError("this file of ratings is gone: write a new one")
    return path


def note_ratings_file(db: Database, job: Job, pairs: int) -> None:
    """Tells the audit log that the ratings went out, and removes the archives before this one."""
    with db.write() as session:
        audit.note(session, job.created_by, "ratings.export", str(job.payload["format"]), {"pairs": pairs})
    for other in (db.home / exports.FOLDER).glob("ratings-*.zip"):
        if other != place_of(db.home, job.id):
            other.unlink(missing_ok=True)

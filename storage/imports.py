"""Adapters of other programs on their way in: a file in the data folder's tmp, and the job that reads it."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path
from typing import Final

from sqlalchemy import select

from storage.engine import Database
from storage.jobs import request_job
from storage.lookup import required
from storage.models import Checkpoint
from storage.models_judging import Job
from storage.types import new_id

KIND: Final = "import"
"""Of the job."""
RATINGS: Final = "ratings_in"
"""Of the job that takes over ratings; its result is {"groups", "ratings", "new_groups", "new_ratings",
"left_out"}."""
WAITING: Final = (KIND, RATINGS)
"""Jobs whose `file` is an upload that must stay until they have ended."""
FOLDER: Final = "imports"
"""Of the data folder: what became of the files, each a checkpoint."""
_ID = re.compile(r"[0-9a-f-]{36}")
_NAME = "adapter.safetensors"
SETTINGS: Final = "adapter_config.json"
"""What PEFT keeps beside an adapter, by its name there and here."""
_KEPT_SECONDS = 24 * 3600


def new_upload(db: Database) -> tuple[str, Path]:
    """The id of an upload and the path to write its file to; the file is known by the id alone from there."""
    upload = new_id()
    path = db.home / "tmp" / "uploads" / upload / _NAME
    path.parent.mkdir(parents=True)
    return upload, path


def new_folder(db: Database) -> tuple[str, Path]:
    """The id of an upload of several files, and the empty folder for them."""
    upload = new_id()
    path = db.home / "tmp" / "uploads" / upload
    path.mkdir(parents=True)
    return upload, path


def uploaded_folder(db: Database, upload: str) -> Path:
    """The folder of an upload; LookupError where it is gone, or there is no such one."""
    path = db.home / "tmp" / "uploads" / upload
    if not _ID.fullmatch(upload) or not path.is_dir():
        raise LookupError("the uploaded file is gone: choose it again")
    return path


def request_ratings(db: Database, *, upload: str, origin: str, by: str = "local") -> Job:
    """Queues the reading of uploaded ratings.

    Args:
        upload: of `new_folder`.
        origin: what the file was called.
    """
    uploaded_folder(db, upload)
    return request_job(db, RATINGS, {"file": upload, "origin": origin}, by)


def uploaded_file(db: Database, upload: str) -> Path:
    """The file of an upload; LookupError where it is gone, or there is no such one."""
    path = db.home / "tmp" / "uploads" / upload / _NAME
    if not _ID.fullmatch(upload) or not path.is_file():
        raise LookupError("the uploaded file is gone: choose it again")
    return path


def tidy(db: Database) -> None:
    """Removes what uploads left behind that broke off, or whose file did not fit, a day or more ago."""
    with db.read() as session:
        waiting = select(Job).where(Job.kind.in_(WAITING), Job.state.in_(("queued", "running")))
        wanted = {str(job.payload.get("file")) for job in session.scalars(waiting)}
    before = time.time() - _KEPT_SECONDS
    for folder in (db.home / "tmp" / "uploads").glob("*"):
        if folder.name not in wanted and folder.stat().st_mtime < before:
            shutil.rmtree(folder, ignore_errors=True)


def request_import(
    db: Database, *, upload: str, base_checkpoint_id: str, name: str, origin: str, by: str = "local"
) -> Job:
    """Queues the reading of an uploaded adapter; its result is {"checkpoint": id}.

    Args:
        upload: of `new_upload`.
        base_checkpoint_id: own checkpoint of the base that the file was made for.
        origin: what the file was called.

    Raises:
        LookupError: no such upload or checkpoint. ValueError: no base, or no name.
    """
    uploaded_file(db, upload)
    if not name.strip():
        raise ValueError("the checkpoint has no name: give it one")
    with db.read() as session:
        base = required(session, Checkpoint, base_checkpoint_id, "checkpoint")
    if base.path is not None:
        raise ValueError(f"{base.name} is no base: choose the base that the file was made for")
    payload = {"file": upload, "base": base.id, "name": name.strip(), "origin": origin}
    return request_job(db, KIND, payload, by)

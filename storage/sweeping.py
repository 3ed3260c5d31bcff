"""Finds and removes files that nothing points to: no row, and no row of a backup that is kept.

A file stands before its row does, so that a young one may only be waiting for it: a day is left to it. Who
stores an image that lies there already makes it young again (storage/blobs.py), under the lock that is held
here while a file is looked at for the last time and removed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from storage import blobs, copies, imports
from storage.engine import Database
from storage.errors import DamagedError
from storage.models import Image, Run
from storage.models_judging import Job
from storage.sqlite_only import is_file

GRACE_SECONDS = 24 * 3600
_ENDED = ("completed", "failed", "canceled")


@dataclass(frozen=True)
class Orphan:
    """A file that nothing points to."""

    path: Path
    size: int


def orphans(db: Database, grace_seconds: float = GRACE_SECONDS) -> list[Orphan]:
    """What may go, older than the grace; nothing is removed."""
    before = time.time() - grace_seconds
    found = []
    for path in _candidates(db):
        with contextlib.suppress(FileNotFoundError):
            seen = path.stat(follow_symlinks=False)
            if seen.st_mtime < before:
                found.append(Orphan(path, seen.st_size))
    return found


def sweep(db: Database, found: Iterable[Orphan], grace_seconds: float = GRACE_SECONDS) -> tuple[int, int]:
    """Removes what `orphans` found, except what has become young since: (files, bytes) that went."""
    count = size = 0
    for one in found:
        with blobs.nobody_stores(db.home), contextlib.suppress(FileNotFoundError):
            if one.path.stat(follow_symlinks=False).st_mtime < time.time() - grace_seconds:
                one.path.unlink()
                count, size = count + 1, size + one.size
    _remove_empty_folders(db.home / "tmp")
    return count, size


def _candidates(db: Database) -> Iterator[Path]:
    wanted = _wanted_images(db)
    for pattern in ("blobs/??/*.png", "thumbs/??/*.webp"):
        yield from (path for path in db.home.glob(pattern) if path.stem not in wanted)
    yield from db.home.glob("thumbs/??/*.tmp")
    yield from (db.home / copies.FOLDER).glob(f"*{copies.PARTIAL}")
    if not _is_a_run_open(db):
        yield from _files(db.home / "rollouts")
    uploads, waiting = db.home / "tmp" / "uploads", _waiting_uploads(db)
    for path in _files(db.home / "tmp"):
        if not (path.is_relative_to(uploads) and path.relative_to(uploads).parts[0] in waiting):
            yield path


def _files(folder: Path) -> Iterator[Path]:
    yield from (path for path in folder.rglob("*") if path.is_symlink() or path.is_file())


def _wanted_images(db: Database) -> set[str]:
    """Of the rows, and of those that a backup would bring back."""
    with db.read() as session:
        wanted = set(session.scalars(select(Image.sha256)))
    for backup in copies.backups_of(db.home) if is_file(db) else ():
        with contextlib.suppress(DamagedError), copies.opened(backup.path) as connection:
            wanted.update(sha256 for (sha256,) in connection.execute("SELECT sha256 FROM image"))
    return wanted


def _is_a_run_open(db: Database) -> bool:
    """One that has not ended may need rollouts that it left days ago."""
    with db.read() as session:
        return session.scalar(select(Run.id).where(Run.state.not_in(_ENDED)).limit(1)) is not None


def _waiting_uploads(db: Database) -> set[str]:
    waiting = select(Job).where(Job.kind.in_(imports.WAITING), Job.state.in_(("queued", "running")))
    with db.read() as session:
        return {str(job.payload.get("file")) for job in session.scalars(waiting)}


def _remove_empty_folders(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink() and time.time() - path.stat().st_mtime > GRACE_SECONDS:
            with contextlib.suppress(OSError):
                path.rmdir()

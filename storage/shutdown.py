"""Whether the studio ended in order the last time. If not, every page of the database is looked at first."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import StatementError

from storage import damage
from storage.backup import Backups
from storage.engine import Database
from storage.errors import ANY, DamagedError, UnreadableError, is_damage
from storage.models import AppMeta
from storage.sqlite_only import is_file

KEY = "clean_shutdown"
"""In app_meta: "false" while the studio is served, "true" after an orderly end; nothing before the first."""
SMALL_BYTES = 64 * 2**20
"""A database up to this size is looked at at every start: that takes well under a second."""

_log = logging.getLogger(__name__)


def check_after_crash(db: Database) -> None:
    """Looks at every page, unless the studio is served elsewhere, or ended in order and the file is large.

    Raises:
        DamagedError: the database is damaged; the sentence names the newest good backup.
    """
    if not is_file(db):
        return
    try:
        with db.read() as session:
            marker = session.get(AppMeta, KEY)
            is_clean = marker is None or marker.value == "true"
            if _is_served(db.home) or (is_clean and _size(db.home) > SMALL_BYTES):
                return
            verdict = session.connection().exec_driver_sql("PRAGMA quick_check(1)").scalar()
    except UnreadableError as error:
        cause = error.__cause__
        if isinstance(cause, StatementError) and is_damage(cause):
            raise damage.told(db.home, cause) from error
        raise
    if verdict != "ok":
        raise DamagedError(f"the database is damaged ({verdict}): {damage.advice(db.home)}")


@contextmanager
def served(db: Database) -> Iterator[Backups]:
    """The studio is served for as long as the block lasts: backups are made, and an orderly end is noted."""
    with _serving(db.home) as fd:
        _note(db, "false")
        backups = Backups(db)
        if is_file(db):
            backups.start()
        try:
            yield backups
        finally:
            backups.stop()
            if _try(fd, fcntl.LOCK_EX):  # else another studio goes on on the same folder
                _note(db, "true")


def _note(db: Database, value: str) -> None:
    """A full disk is no reason not to start or to end: the next start looks at the database then."""
    try:
        with db.write() as session:
            session.merge(AppMeta(key=KEY, value=value))
    except ANY as error:
        _log.warning("the mark of an orderly end was not set: %s", error)


def _size(home: Path) -> int:
    return sum(path.stat().st_size for path in home.glob("app.db*"))


@contextmanager
def _serving(home: Path) -> Iterator[int]:
    """Holds the lock of all who serve this folder, together."""
    fd = os.open(_lock(home), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        yield fd
    finally:
        os.close(fd)


def _is_served(home: Path) -> bool:
    fd = os.open(_lock(home), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        return not _try(fd, fcntl.LOCK_EX)
    finally:
        os.close(fd)


def _try(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock(home: Path) -> Path:
    return home / "locks" / "serving.lock"

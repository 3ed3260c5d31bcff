"""Copies of a SQLite database, made while others write to it: whole, checked, and on the disk."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from storage.disk import put_in_place
from storage.errors import DamagedError, NotSavedError
from storage.failpoints import failpoint

FOLDER = "backups"
"""Of the data folder."""
AUTOMATIC = "studio"
"""Begins the names of those that are rotated; all others stay until a person or a migration removes them."""
PARTIAL = ".partial"
_STAMP = "%Y%m%dT%H%M%S%fZ"
_HEADER = 100
"""Bytes of a SQLite file that count its changes, and so differ between equal copies."""
_SIGNS_OF_LIFE = "worker_beat"
"""A table that changes every few seconds and says nothing about the past; copies have it empty."""
_FULL, _DAMAGED = (10, 13), (11, 26)
"""SQLite's primary result codes."""
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Backup:
    """A copy that lies in the data folder.

    Attributes:
        at: when its data were those of the database.
    """

    path: Path
    at: datetime
    size: int


@dataclass(frozen=True)
class Content:
    """What a copy holds."""

    schema: str
    ratings: int
    images: int


def backups_of(home: Path) -> list[Backup]:
    """Every copy in the data folder, the newest first; nothing is opened."""
    found = [_backup(path) for path in (home / FOLDER).glob("*.db")]
    return sorted(found, key=lambda one: one.at, reverse=True)


def automatic_of(home: Path) -> list[Backup]:
    """Backups that the studio made by itself, newest first; not what a migration or a person put there."""
    return [one for one in backups_of(home) if time_in(one.path) is not None]


def _backup(path: Path) -> Backup:
    seen = path.stat()
    at = time_in(path) or datetime.fromtimestamp(seen.st_mtime, UTC)
    return Backup(path, at, seen.st_size)


def time_in(path: Path) -> datetime | None:
    """The time in the name of an automatic copy; None for other names."""
    try:
        return datetime.strptime(path.stem.removeprefix(f"{AUTOMATIC}-"), _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None


def automatic_name(at: datetime) -> str:
    """What a copy of this time is called."""
    return f"{AUTOMATIC}-{at.astimezone(UTC).strftime(_STAMP)}.db"


def make(source: Any, target: Path, unless_like: Path | None = None) -> bool:
    """Copies a database to `target`; writers go on meanwhile, and the copy is of one moment.

    Args:
        source: a connection of the SQLite in use that may write, in no transaction.
        unless_like: a copy that is not made again; False is returned then.

    Raises:
        NotSavedError: the disk is full. DamagedError: the database, or its copy, is damaged. Nothing is left.
    """
    partial = target.with_suffix(PARTIAL)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
        _copy(source, partial)
        failpoint("backup.copied")
        if unless_like is not None and unless_like.exists() and _same(partial, unless_like):
            return False
        put_in_place(partial, target)
    except (OSError, source.Error) as error:
        raise _in_words(error) from error
    finally:
        _forget(partial)
    failpoint("backup.placed")
    return True


def _forget(partial: Path) -> None:
    with contextlib.suppress(OSError):
        partial.unlink()


def _copy(source: Any, partial: Path) -> None:
    cursor = source.cursor()
    cursor.execute("VACUUM INTO ?", (str(partial),))
    cursor.execute("ATTACH ? AS copy", (str(partial),))
    try:
        if cursor.execute("SELECT 1 FROM copy.sqlite_master WHERE name = ?", (_SIGNS_OF_LIFE,)).fetchone():
            cursor.execute("PRAGMA copy.secure_delete=ON")  # else what was deleted tells two copies apart
            cursor.execute(f"DELETE FROM copy.{_SIGNS_OF_LIFE}")
        verdict = cursor.execute("PRAGMA copy.integrity_check(1)").fetchone()
    finally:
        cursor.execute("DETACH copy")
    if verdict != ("ok",):
        raise DamagedError(f"No backup was made: the copy is damaged ({verdict[0]}): check the disk.")


def _same(first: Path, second: Path) -> bool:
    return first.stat().st_size == second.stat().st_size and _hash(first) == _hash(second)


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(_HEADER)
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _in_words(error: Exception) -> OSError:
    if isinstance(error, NotSavedError | DamagedError):
        return error
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _DAMAGED:
        return DamagedError(
            f"No backup was made: the database is damaged ({error}): restore an older backup."
        )
    what = "free some space, then try again" if isinstance(error, OSError) or code in _FULL else "try again"
    return NotSavedError(f"No backup was made ({error}): {what}.")


@contextlib.contextmanager
def opened(path: Path, name: str = "") -> Iterator[sqlite3.Connection]:
    """A copy to look into; nothing is written, and no file appears beside it. Sentences call it `name`.

    Raises:
        DamagedError: it is no database, or a damaged one.
    """
    if not path.is_file():
        raise DamagedError(f"There is no file {path}: name one that there is.")
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        yield connection
    except sqlite3.Error as error:
        raise DamagedError(
            f"{name or path.name} is no intact database ({error}): choose another one."
        ) from error
    finally:
        connection.close()


def verified(path: Path, name: str = "") -> Content:
    """What a copy holds, once every page of it was looked at.

    Raises:
        DamagedError: it is damaged, or not one of ours; the sentence says which.
    """
    with opened(path, name) as connection:
        (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise DamagedError(f"{name or path.name} is damaged ({verdict}): choose another one.")
        if dangling := connection.execute("PRAGMA foreign_key_check").fetchall():
            raise DamagedError(
                f"{name or path.name} has {len(dangling)} rows that point to nothing: choose another one."
            )
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if not {"alembic_version", "rating_event", "image"} <= tables:
            raise DamagedError(f"{name or path.name} is no database of this program: choose another one.")
        (schema,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return Content(schema, _count(connection, "rating_event"), _count(connection, "image"))


def _count(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def newest_good(home: Path) -> tuple[Backup, Content] | None:
    """The newest copy in the data folder that is intact; None where there is none."""
    for backup in backups_of(home):
        with contextlib.suppress(DamagedError):
            return backup, verified(backup.path)
    return None

"""Puts a backup in the place of the database. What was there is kept aside, and is never deleted here."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from storage import backup_trouble, blobs, migrate
from storage.copies import Content, backups_of, opened, verified
from storage.damage import ASIDE
from storage.disk import put_in_place, sync
from storage.errors import DamagedError, NotSavedError
from storage.failpoints import failpoint
from storage.presence import alone
from storage.sqlite_only import refuse_server
from storage.types import new_id, utc_now

DATABASE = "app.db"
_PARTS = (DATABASE, "app.db-wal", "app.db-shm", "app.db-journal")
"""The database goes first: as long as it is not there, nothing can start, and nothing is written anew."""
_LOGINS = ("session", "login_link", "login_throttle", "api_token")
"""Tables that a backup must not bring back: what was logged out, revoked or locked since stays so."""


@dataclass(frozen=True)
class Restored:
    """What was put in place.

    Attributes:
        at: when its data were those of the database.
        aside: where the database lies that was replaced; None where there was none.
        missing: files that rows point to and that are not in the data folder, such as "blobs/ab/ab12.png".
    """

    path: Path
    at: datetime
    content: Content
    aside: Path | None
    missing: list[str]


def restore(home: Path, source: Path | None = None) -> Restored:
    """Restores the newest good backup, or the file `source`, while nobody has the data folder open.

    Raises:
        DamagedError: it is damaged, or of a newer program; or there is no good one. Nothing was changed.
        NotSavedError: the disk is full. Nothing was changed.
        OSError: the data folder is open in another process.
    """
    refuse_server("restore")
    home = home.resolve()
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    partial = home / "tmp" / f"{new_id()}.db"
    with alone(home):
        try:
            path, content = _chosen(home, source, partial)
            at = next((one.at for one in backups_of(home) if one.path == path), None) or _written(path)
            _forget_logins(partial)
            failpoint("restore.copied")
            aside = _put_aside(home)
            failpoint("restore.aside")
            put_in_place(partial, home / DATABASE)
            backup_trouble.note(home, "")  # it was the other one's
        finally:
            for left in home.glob(f"tmp/{partial.name}*"):
                left.unlink()
        return Restored(path, at, content, aside, list(missing_files(home)))


def _chosen(home: Path, source: Path | None, partial: Path) -> tuple[Path, Content]:
    """The backup, of which `partial` is a copy then: it stays as it is itself."""
    if source is not None:
        path = source.resolve()
        if path == home / DATABASE:
            raise DamagedError(f"{source} is the database itself: name a backup of it.")
        return path, _copied(path, partial)
    for backup in backups_of(home):
        try:
            return backup.path, _copied(backup.path, partial)
        except DamagedError:
            continue
    raise DamagedError(
        f"there is no good backup in {home / 'backups'}: name a file with --from; nothing was changed"
    )


def _fitting(path: Path, name: str) -> Content:
    content = verified(path, name)
    if content.schema > migrate.head_of():
        raise DamagedError(
            f"{name} has schema {content.schema}, this program knows up to {migrate.head_of()}: "
            "install the newer version that wrote it"
        )
    return content


def _written(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _copied(path: Path, partial: Path) -> Content:
    """Copies a database, with its write-ahead log where one lies beside it; then looks at all of it."""
    if not path.is_file():
        raise DamagedError(f"There is no file {path}: name one that there is.")
    try:
        shutil.copyfile(path, partial)
        log = path.with_name(f"{path.name}-wal")
        if log.exists() and log.stat().st_size:
            shutil.copyfile(log, f"{partial}-wal")
            _changed(partial, ["PRAGMA journal_mode=DELETE"])
    except OSError as error:
        raise _not_restored(error) from error
    except sqlite3.Error as error:
        raise DamagedError(f"{path.name} is no intact database ({error}): choose another one.") from error
    return _fitting(partial, path.name)


def _forget_logins(partial: Path) -> None:
    with opened(partial) as connection:
        known = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    try:
        _changed(partial, [f"DELETE FROM {table}" for table in known.intersection(_LOGINS)])
        sync(partial)
    except (OSError, sqlite3.Error) as error:
        raise _not_restored(error) from error


def _changed(partial: Path, statements: Sequence[str]) -> None:
    connection = sqlite3.connect(partial, isolation_level=None)
    try:
        for sql in statements:
            connection.execute(sql)
    finally:
        connection.close()


def _not_restored(error: Exception) -> NotSavedError:
    return NotSavedError(f"Not restored ({error}); nothing was changed: free some space, then try again.")


def _put_aside(home: Path) -> Path | None:
    """A write-ahead log left behind would be played into the database that comes."""
    parts = [home / name for name in _PARTS if (home / name).exists()]
    if not parts:
        return None
    aside = home / ASIDE / utc_now().strftime("%Y%m%dT%H%M%S%fZ")
    aside.mkdir(parents=True)
    for part in parts:
        part.rename(aside / part.name)
        failpoint(f"restore.aside_{part.name}")
    for folder in (aside, aside.parent, home):
        sync(folder)
    return aside


def missing_files(home: Path, database: Path | None = None) -> Iterator[str]:
    """Files that rows of a database point to and that are not there, relative to the data folder."""
    with opened(database or home / DATABASE) as connection:
        hashes = connection.execute("SELECT DISTINCT sha256 FROM image").fetchall()
        folders = connection.execute(
            "SELECT path FROM checkpoint WHERE path IS NOT NULL AND state = 'committed'"
        ).fetchall()
    for (sha256,) in hashes:
        blob = blobs.path_of(home, sha256)
        if not blob.exists():
            yield str(blob.relative_to(home))
    for (folder,) in folders:
        if not (home / folder).exists():
            yield str(folder)

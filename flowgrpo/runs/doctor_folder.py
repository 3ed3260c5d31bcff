"""The data folder under the doctor's eye: rights, room, what the disk promises, database, clock and port."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

from flowgrpo.runs.findings import Finding
from storage import copies, counts, filesystems, migrate
from storage.backup_trouble import trouble_of
from storage.damage import age_words
from storage.engine import Database
from storage.types import new_id, utc_now

LITTLE_DISK: Final = 2 * 10**9
"""Bytes below which a run on the starter may not find room."""
RESERVE: Final = 256 * 2**20
"""Bytes that stay free: below them uploads are refused, and /healthz says so."""
SLOW_SECONDS: Final = 1.0
"""A megabyte that takes longer to reach the disk makes every vote wait."""
CLOCK_SLACK: Final = timedelta(minutes=1)
IDLE: Final = timedelta(days=1)
PORT: Final = 7860


def examine_folder(db: Database) -> Iterator[Finding]:
    """All that concerns the data folder, one after the other."""
    yield Finding("ok", f"data folder {db.home}")
    yield from _rights(db.home)
    yield _room(db.home)
    yield _promise(db.home)
    yield _kind(db.home, is_server=not db.is_sqlite)
    yield from _database(db)
    if db.is_sqlite:
        yield _backups(db.home)
    yield _clock(db)
    yield _port()


def _rights(home: Path) -> Iterator[Finding]:
    if not os.access(home, os.W_OK | os.X_OK):
        yield Finding("problem", "the data folder cannot be written", f"let this user write to {home}")
    is_open = [path for path in (home, home / "app.db") if path.exists() and _others_write(path)]
    if is_open:
        advice = f"chmod go-w {' '.join(map(str, is_open))}"
        yield Finding("note", "other users of this machine can change the data", advice)
    else:
        yield Finding("ok", "no other user of this machine can change the data")


def _others_write(path: Path) -> bool:
    return bool(path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _room(home: Path) -> Finding:
    free = shutil.disk_usage(home).free
    told = f"{free / 1e9:.1f} GB of disk free"
    advice = "free some, or set FLOWGRPO_HOME to another disk"
    if free < RESERVE:
        return Finding("problem", f"{told}, less than the reserve of {RESERVE / 1e9:.1f} GB", advice)
    return Finding("ok", told) if free >= LITTLE_DISK else Finding("note", told, advice)


def _promise(home: Path) -> Finding:
    """Does what every save does: write, sync, rename."""
    partial = home / "tmp" / f"doctor-{new_id()}"
    target = partial.with_suffix(".kept")
    begun = time.monotonic()
    try:
        with partial.open("xb") as file:
            file.write(bytes(2**20))
            file.flush()
            os.fsync(file.fileno())
        partial.rename(target)
    except OSError as error:
        advice = "free some space, or let this user write to its folder tmp"
        return Finding("problem", f"a file cannot be saved in the data folder ({error.strerror})", advice)
    finally:
        partial.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
    seconds = time.monotonic() - begun
    told = f"write, sync and rename of 1 MB took {seconds * 1000:.0f} ms"
    slow = "a slow disk makes votes wait: choose a local one for FLOWGRPO_HOME"
    return Finding("ok", told) if seconds <= SLOW_SECONDS else Finding("note", told, slow)


def _kind(home: Path, *, is_server: bool) -> Finding:
    kind = filesystems.kind_of(home) or "an unknown file system"
    if kind in filesystems.NETWORK and is_server:
        return _shared(home, kind)
    if kind in filesystems.NETWORK:
        advice = "locks do not hold there: choose a local disk for FLOWGRPO_HOME"
        return Finding("problem", f"the data folder lies on {kind}", advice)
    if not filesystems.has_shared_memory(home):
        advice = "fine for one machine; a local disk is quicker, for it lets readers and writers work at once"
        return Finding("note", f"the data folder lies on {kind}", advice)
    return Finding("ok", f"the data folder lies on {kind}")


def _shared(home: Path, kind: str) -> Finding:
    """A network file system where the rows are a server's: fine as long as locks and renames hold there."""
    try:
        filesystems.refuse_unshared(home)
    except OSError as error:
        return Finding("problem", f"the data folder lies on {kind}", str(error))
    return Finding("ok", f"the data folder lies on {kind}, where locks and renames hold")


def _database(db: Database) -> Iterator[Finding]:
    driver = db.driver
    yield Finding("ok", f"schema {migrate.head_of()}")
    if not db.is_sqlite:
        yield Finding("ok", f"database: {driver.name} {driver.version}")
        return
    told = f"database: SQLite by {driver.name} {driver.version}, journal {driver.journal_mode}"
    is_wal = driver.journal_mode == "WAL" or not filesystems.has_shared_memory(db.home)
    advice = "this SQLite is not safe with WAL, so writes are slower: pip install -r requirements.txt"
    yield Finding("ok", told) if is_wal else Finding("note", told, advice)


def _backups(home: Path) -> Finding:
    now, made = utc_now(), copies.automatic_of(home)
    newest = (
        f"newest backup: {age_words((now - made[0].at).total_seconds())} old" if made else "no backup yet"
    )
    if (trouble := trouble_of(home)) is None:
        return Finding("ok", newest)
    age = age_words((now - trouble.at).total_seconds())
    told = f"the last backup failed {age} ago ({trouble.why.rstrip('.')}), {newest}"
    return Finding("note", told, "once that is mended, python app.py backup makes one at once")


def _clock(db: Database) -> Finding:
    """Orders of rows follow from times, and so do sessions that end."""
    newest, now = counts.newest_row(db), utc_now()
    told, advice = f"clock: {now:%Y-%m-%d %H:%M} UTC", "set the clock: timedatectl set-ntp true"
    if newest is None:
        return Finding("ok", f"{told}, nothing has happened yet")
    if newest > now + CLOCK_SLACK:
        return Finding("problem", f"{told}, and the newest row is of {newest:%Y-%m-%d %H:%M}", advice)
    if newest < now - IDLE:
        told = f"{told}, and nothing has happened since {newest:%Y-%m-%d %H:%M}"
        return Finding("note", told, f"if people have worked since, {advice}")
    return Finding("ok", f"{told}, after the newest row")


def _port() -> Finding:
    number = int(os.environ.get("GRADIO_SERVER_PORT", str(PORT)))
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError:
            advice = "fine while the studio runs; else end the other program, or set GRADIO_SERVER_PORT"
            return Finding("note", f"port {number} is taken", advice)
    return Finding("ok", f"port {number} is free")

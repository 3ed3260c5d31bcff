"""Backups of the database while it is in use: every few minutes when something changed, thinned with age.

They hold rows alone. Images lie beside them under names that say their content and are never written over,
so one copy of them serves all backups.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from storage import backup_trouble, copies
from storage.copies import Backup
from storage.engine import BUSY_TIMEOUT_MS, Database, choose_driver
from storage.errors import ANY
from storage.locks import FileLock
from storage.rotation import Retention, kept
from storage.settings import get_setting, put_setting
from storage.sqlite_only import refuse_server
from storage.types import utc_now

SETTING = "backups"
"""{"minutes": between two of them, "newest", "hours", "days": see Retention}."""
MINUTES = 5.0
"""How old the data of the newest backup may get while the studio is served."""
_MARGIN = 0.9
"""Of that time: the rest is for making the next one."""
_FIRST_SECONDS = 20.0
"""After a start, which has other things to do."""
_TROUBLE: tuple[type[Exception], ...] = (*ANY, sqlite3.Error, OSError)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """How often, and what stays."""

    minutes: float = MINUTES
    retention: Retention = field(default_factory=Retention)


def plan_of(db: Database) -> Plan:
    """As set; what is missing or no number that makes sense is as usual."""
    found = get_setting(db, SETTING)
    said: dict[str, Any] = found if isinstance(found, dict) else {}
    usual = Retention()
    numbers = {name: _number(said.get(name), getattr(usual, name), 1, 1_000) for name in vars(usual)}
    minutes = _number(said.get("minutes"), MINUTES, 0.01, 24 * 60)
    return Plan(minutes, Retention(**{name: int(value) for name, value in numbers.items()}))


def set_plan(db: Database, by: str = "local", **numbers: float) -> None:
    """Sets `minutes`, `newest`, `hours` or `days`; the others stay."""
    found = get_setting(db, SETTING)
    put_setting(db, SETTING, (found if isinstance(found, dict) else {}) | numbers, by)


def _number(value: object, usual: float, least: float, most: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return min(most, max(least, float(value))) if is_number else usual  # type: ignore[arg-type]


def back_up(db: Database, retention: Retention | None = None, now: datetime | None = None) -> Backup | None:
    """Makes a backup and thins out the older ones; None where nothing changed since the newest.

    Raises:
        NotSavedError: the disk is full. DamagedError: the database is damaged. Older backups stay then.
        ValueError: the database is a server's.
    """
    refuse_server("backup", db)
    at = now or utc_now()
    folder = db.home / copies.FOLDER
    with FileLock(db.home / "locks" / "backup.lock"), _connection(db.home) as connection:
        last = next((one.path for one in copies.automatic_of(db.home)), None)
        target = folder / copies.automatic_name(at)
        is_new = copies.make(connection, target, unless_like=last)
        backup_trouble.note(db.home, "")
        if not is_new:
            return None
        _thin(db.home, retention or plan_of(db).retention)
    return Backup(target, at, target.stat().st_size)


def snapshot(db: Database, target: Path) -> None:
    """A copy of the database of this moment, elsewhere; as `copies.make`."""
    with _connection(db.home) as connection:
        copies.make(connection, target)


@contextmanager
def _connection(home: Path) -> Iterator[Any]:
    """One that may write, beside those of the engine: it never holds up a rating."""
    module, _ = choose_driver(home)
    connection = module.connect(str(home / "app.db"), isolation_level=None)
    try:
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA temp_store=MEMORY")
        yield connection
    finally:
        connection.close()


def _thin(home: Path, retention: Retention) -> None:
    rotated = {one.at: one.path for one in copies.automatic_of(home)}
    for at in rotated.keys() - kept(rotated, retention):
        rotated[at].unlink(missing_ok=True)


class Backups:
    """Makes them in a thread of its own while the studio is served.

    Attributes:
        trouble: why the last one failed; empty when it did not. Other processes ask `trouble_of`.
    """

    def __init__(self, db: Database, first_seconds: float = _FIRST_SECONDS) -> None:
        self.trouble = ""
        self._db, self._next = db, time.monotonic() + first_seconds
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="backups", daemon=True)

    def start(self) -> Backups:
        """Starts the thread; returns itself."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Ends the thread, after the backup that is being made."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _loop(self) -> None:
        while not self._ending.wait(max(0.0, self._next - time.monotonic())):
            minutes = MINUTES
            self._next = time.monotonic() + _MARGIN * 60 * minutes
            try:
                plan = plan_of(self._db)
                self._next += _MARGIN * 60 * (plan.minutes - minutes)
                back_up(self._db, plan.retention)
                self.trouble = ""
            except _TROUBLE as error:
                self.trouble = str(error)
                backup_trouble.note(self._db.home, self.trouble)
                _log.warning("%s", error)

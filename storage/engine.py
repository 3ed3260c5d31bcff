"""Opens the data folder: which SQLite, with which settings, and the two ways to talk to it.

Reads and writes use separate connections. Every write is a BEGIN IMMEDIATE on the process's one write connection, so
a decision and what follows from it are one transaction, and waiting happens before work, not in the middle of it.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from storage import filesystems, migrate
from storage.errors import not_saved

try:
    import pysqlite3.dbapi2 as pysqlite
except (
    ImportError
):  # wheels exist for Linux only; elsewhere the standard library's SQLite is judged by its version
    pysqlite = None

BUSY_TIMEOUT_MS = 10_000
"""How long a statement waits for another process's write before it gives up."""
READ_CONNECTIONS = 8
FOLDERS = ("blobs", "runs", "locks", "tmp")


@dataclass(frozen=True)
class Driver:
    """The SQLite in use, for the log and the health page."""

    name: str
    version: str
    journal_mode: str
    synchronous: str


def has_wal_fix(version: tuple[int, ...]) -> bool:
    """True where the WAL-reset corruption bug is absent (in 3.7.0 to 3.51.2; fixed in 3.51.3, backported to 3.50.7)."""
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51)


def choose_driver(home: Path) -> tuple[ModuleType, Driver]:
    """A SQLite that may run WAL, else the standard library's with a rollback journal, which the bug cannot touch."""
    candidates: list[ModuleType] = [sqlite3] if pysqlite is None else [pysqlite, sqlite3]
    fixed = next((module for module in candidates if has_wal_fix(module.sqlite_version_info)), None)
    module = fixed or sqlite3
    is_wal = fixed is not None and filesystems.has_shared_memory(home)
    journal_mode, synchronous = ("WAL", "FULL") if is_wal else ("TRUNCATE", "EXTRA")
    return module, Driver(module.__name__.split(".")[0], module.sqlite_version, journal_mode, synchronous)


class Database:
    """An open data folder. `read()` and `write()` give sessions; records stay usable after them, detached."""

    def __init__(self, home: Path, url: str, module: ModuleType, driver: Driver) -> None:
        self.home = home
        self.driver = driver
        self._writer = make_engine(url, module, driver, pool_size=1, begin="BEGIN IMMEDIATE")
        self._reader = make_engine(
            url, module, driver, pool_size=READ_CONNECTIONS, begin="BEGIN", query_only=True
        )
        self._write_lock = threading.Lock()
        self._write_owner: int | None = None

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One consistent view of the data; a write in it is refused by SQLite."""
        with Session(self._reader, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction: committed and on disk when the block ends, or wholly undone when it raises.

        Raises:
            NotSavedError: the disk is full, or another process held the database for too long.
        """
        if self._write_owner == threading.get_ident():
            raise RuntimeError("a write inside a write would wait for itself: pass the session on")
        with self._write_lock, Session(self._writer, expire_on_commit=False) as session:
            self._write_owner = threading.get_ident()
            try:
                yield session
                session.commit()
            except DatabaseError as error:
                session.rollback()
                raise not_saved(error) from error
            finally:
                self._write_owner = None

    def close(self) -> None:
        """Gives all connections back; the object is of no use afterwards."""
        self._writer.dispose()
        self._reader.dispose()


def open_database(home: Path, url: str | None = None) -> Database:
    """Opens `home`, making and migrating what is not there yet; safe for many processes at once.

    Raises:
        ValueError: `url` is not a SQLite one.
        SchemaError: the data was written by a newer version of this program.
        OSError: the folder cannot be written, or lies on a network file system.
    """
    if url is not None and make_url(url).get_backend_name() != "sqlite":
        raise ValueError(
            f"expected a sqlite:/// address, got {url}: this version keeps its data in SQLite only"
        )
    for name in FOLDERS:
        (home / name).mkdir(parents=True, exist_ok=True)
    filesystems.refuse_network(home)
    module, driver = choose_driver(home)
    address = url or f"sqlite:///{home / 'app.db'}"
    plain = make_engine(address, module, driver, pool_size=0, begin="BEGIN IMMEDIATE", foreign_keys=False)
    migrate.to_head(plain, home)
    plain.dispose()
    return Database(home, address, module, driver)


def make_engine(
    url: str,
    module: ModuleType,
    driver: Driver,
    *,
    pool_size: int,
    begin: str,
    query_only: bool = False,
    foreign_keys: bool = True,
) -> Engine:
    """An engine whose every connection has the settings of reliability.md 1.2; pool_size 0 keeps none open."""
    pool: dict[str, Any] = (
        {"pool_size": pool_size, "max_overflow": 0, "pool_timeout": 30}
        if pool_size
        else {"poolclass": NullPool}
    )
    engine = create_engine(url, module=module, connect_args={"check_same_thread": False}, **pool)

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _: ConnectionPoolEntry) -> None:
        connection.isolation_level = (
            None  # the driver must not open transactions of its own; `begin` below does
        )
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        _set_journal_mode(connection, driver.journal_mode)
        connection.execute(f"PRAGMA synchronous={driver.synchronous}")
        connection.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute(f"PRAGMA query_only={'ON' if query_only else 'OFF'}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _set_journal_mode(connection: Any, wanted: str) -> None:
    """Setting WAL again is free; leaving it is not possible while another process has the database open."""
    (mode,) = connection.execute(f"PRAGMA journal_mode={wanted}").fetchone()
    if mode.upper() != wanted:
        raise OSError(
            f"the database is in journal mode {mode} and this process needs {wanted}: "
            "stop the other processes that use this data folder, then start again"
        )

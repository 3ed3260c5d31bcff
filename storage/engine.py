"""Opens the data folder: which SQLite, with which settings, and the two ways to talk to it.

Reads and writes use separate connections. Every write is a BEGIN IMMEDIATE on the process's one write
connection, so a decision and what follows from it are one transaction, and the waiting comes before the work.
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
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from storage import filesystems, migrate
from storage.errors import BUSY, NotSavedError, in_words
from storage.locks import FileLock

try:
    import pysqlite3.dbapi2 as pysqlite
except ImportError:  # wheels exist for Linux only; elsewhere the standard library's is judged by its version
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
    """True where WAL cannot lose pages: the reset bug is in 3.7.0 to 3.51.2; 3.50.7 has the fix as well."""
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51)


def available_modules() -> list[ModuleType]:
    """The SQLite modules of this interpreter, best first."""
    return [sqlite3] if pysqlite is None else [pysqlite, sqlite3]


def choose_driver(home: Path) -> tuple[ModuleType, Driver]:
    """A SQLite that may run WAL, else one with a rollback journal, which the reset bug cannot touch."""
    modules = available_modules()
    fixed = [module for module in modules if has_wal_fix(module.sqlite_version_info)]
    module = (fixed or modules)[0]
    is_wal = bool(fixed) and filesystems.has_shared_memory(home)
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
        """One consistent view of the data; SQLite refuses a write in it.

        Raises:
            UnreadableError: the file is damaged, or locked for too long.
        """
        with Session(self._reader, expire_on_commit=False) as session:
            try:
                yield session
            except StatementError as error:
                raise in_words(error, writing=False) from error

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction: committed and on disk when the block ends, wholly undone when it raises.

        Raises:
            NotSavedError: the disk is full, or another process held the database for too long.
        """
        if self._write_owner == threading.get_ident():
            raise RuntimeError("a write inside a write would wait for itself: pass the session on")
        with self._write_lock, self._gate(), Session(self._writer, expire_on_commit=False) as session:
            self._write_owner = threading.get_ident()
            try:
                yield session
                session.commit()
            except StatementError as error:
                session.rollback()
                raise in_words(error, writing=True) from error
            finally:
                self._write_owner = None

    @contextmanager
    def _gate(self) -> Iterator[None]:
        """Our processes queue here: SQLite's own wait backs off to 100 ms and starves whoever is unlucky."""
        gate = FileLock(self.home / "locks" / "write.lock")
        if not gate.acquire(blocking=False, timeout_seconds=BUSY_TIMEOUT_MS / 1000):
            raise NotSavedError(BUSY)
        try:
            yield
        finally:
            gate.release()

    def close(self) -> None:
        """Gives all connections back; the object is of no use afterwards."""
        self._writer.dispose()
        self._reader.dispose()


def open_database(home: Path, url: str | None = None) -> Database:
    """Opens `home`, making and migrating what is not there yet; safe for many processes at once.

    Raises:
        ValueError: `url` is not a SQLite one.
        SchemaError: the data was written by a newer version of this program.
        OSError: the folder cannot be written or lies on a network file system, or the file is damaged.
    """
    if url is not None and make_url(url).get_backend_name() != "sqlite":
        raise ValueError(
            "expected a sqlite:/// address, got another database: this version keeps SQLite only"
        )
    _make_folders(home)
    filesystems.refuse_network(home)
    module, driver = choose_driver(home)
    address = url or f"sqlite:///{home / 'app.db'}"
    database = Database(home, address, module, driver)
    upgrader = make_engine(address, module, driver, pool_size=0, begin="BEGIN IMMEDIATE", foreign_keys=False)
    try:
        migrate.to_head(database._reader, upgrader, home)
    except StatementError as error:
        raise in_words(error, writing=True) from error
    return database


def _make_folders(home: Path) -> None:
    try:
        for name in FOLDERS:
            (home / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"the data folder {home} cannot be made ({error.strerror}): choose another FLOWGRPO_HOME"
        ) from error


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
    """An engine whose every connection has the settings of reliability.md 1.2; `pool_size` 0 keeps none."""
    pool: dict[str, Any] = {"pool_size": pool_size, "max_overflow": 0, "pool_timeout": 30}
    if pool_size == 0:
        pool = {"poolclass": NullPool}
    engine = create_engine(url, module=module, connect_args={"check_same_thread": False}, **pool)

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # the driver must open no transactions of its own; `begin` does
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
    """WAL stays set in the file; it cannot be left while another process has the database open."""
    (mode,) = connection.execute(f"PRAGMA journal_mode={wanted}").fetchone()
    if mode.upper() != wanted:
        raise OSError(
            f"the database is in journal mode {mode} and this process needs {wanted}: "
            "stop the other processes that use this data folder, then start again"
        )

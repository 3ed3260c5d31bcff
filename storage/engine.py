"""Opens the data folder: which database, with which settings, and the two ways to talk to it.

Reads and writes use separate connections. Every write takes the lock of all writers first (BEGIN IMMEDIATE;
on PostgreSQL see `storage.postgres`) on the process's one write connection, so a decision and what follows
from it are one transaction, and the waiting comes before the work.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from storage import damage, filesystems, migrate, postgres
from storage.errors import BUSY, NotSavedError, in_words
from storage.locks import FileLock
from storage.presence import Presence

try:
    import pysqlite3.dbapi2 as pysqlite
except ImportError:  # wheels exist for Linux only; elsewhere the standard library's is judged by its version
    pysqlite = None

BUSY_TIMEOUT_MS = 10_000
"""How long a statement waits for another process's write before it gives up."""
UPGRADE_TIMEOUT_MS = 600_000
"""How long the opening of a server's database waits for another process that changes its tables."""
READ_CONNECTIONS = 8
FOLDERS = ("blobs", "runs", "locks", "tmp")


@dataclass(frozen=True)
class Driver:
    """The database in use, for the log and the health page."""

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

    def __init__(self, home: Path, driver: Driver, *, writer: Engine, reader: Engine) -> None:
        self.home = home
        self.driver = driver
        self._writer, self._reader = writer, reader
        self._write_lock = threading.Lock()
        self._write_owner: int | None = None
        self._presence = Presence(home)

    @property
    def is_sqlite(self) -> bool:
        """Whether the rows are a file of the data folder; else they are a server's."""
        return self._writer.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One consistent view of the data; the database refuses a write in it.

        Raises:
            UnreadableError: the file is damaged, or locked for too long; the server has gone.
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
            NotSavedError: the disk is full, another process held the database for too long, or the server
                has gone.
        """
        if self._write_owner == threading.get_ident():
            raise RuntimeError("a write inside a write would wait for itself: pass the session on")
        with self._gate(), Session(self._writer, expire_on_commit=False) as session:
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
        """Our threads queue here, then our processes, no longer than the limit in all. SQLite's own wait
        backs off to 100 ms and starves whoever is unlucky.
        """
        until = time.monotonic() + BUSY_TIMEOUT_MS / 1000
        if not self._write_lock.acquire(timeout=BUSY_TIMEOUT_MS / 1000):
            raise NotSavedError(BUSY)
        try:
            with self._gate_of_processes(until):
                yield
        finally:
            self._write_lock.release()

    @contextmanager
    def _gate_of_processes(self, until: float) -> Iterator[None]:
        if not self.is_sqlite:  # the server has a fair queue
            yield
            return
        gate = FileLock(self.home / "locks" / "write.lock")
        if not gate.acquire(blocking=False, timeout_seconds=max(0.0, until - time.monotonic())):
            raise NotSavedError(BUSY)
        try:
            yield
        finally:
            gate.release()

    def close(self) -> None:
        """Gives all connections back; the object is of no use afterwards."""
        self._writer.dispose()
        self._reader.dispose()
        self._presence.leave()


def open_database(home: Path, url: str | None = None) -> Database:
    """Opens `home`, making and migrating what is not there yet; safe for many processes at once.

    Args:
        home: the data folder.
        url: where the rows are; else what DATABASE_URL says, else a SQLite file in the folder.

    Raises:
        ValueError: `url` is neither one of SQLite nor of PostgreSQL.
        SchemaError: the data was written by a newer version of this program, or by an older one and nobody
            has allowed the change of a server's tables.
        OSError: the folder or the server cannot be used, or does not keep what it acknowledges.
        DamagedError: the file is damaged, or gone; the sentence names the newest good backup.
    """
    text = url or os.environ.get(postgres.URL_VARIABLE) or f"sqlite:///{home / 'app.db'}"
    server = postgres.address_of(text)
    _make_folders(home)
    if server is None:
        if url is None:
            damage.refuse_to_start_empty(home)
        return _open_file(home, text)
    try:
        return _open_server(home, server)
    except StatementError as error:
        raise in_words(error, writing=True) from error


def _open_file(home: Path, address: str) -> Database:
    filesystems.refuse_network(home)
    module, driver = choose_driver(home)
    database = Database(
        home,
        driver,
        writer=make_engine(address, module, driver, pool_size=1, begin="BEGIN IMMEDIATE"),
        reader=make_engine(
            address, module, driver, pool_size=READ_CONNECTIONS, begin="BEGIN", query_only=True
        ),
    )
    upgrader = make_engine(address, module, driver, pool_size=0, begin="BEGIN IMMEDIATE", foreign_keys=False)
    try:
        migrate.to_head(database._reader, upgrader, home)
    except StatementError as error:
        database.close()
        raise damage.told(home, error) from error
    return database


def _open_server(home: Path, address: URL) -> Database:
    filesystems.refuse_unshared(home)
    reader = postgres.make_engine(
        address, pool_size=READ_CONNECTIONS, wait_ms=BUSY_TIMEOUT_MS, read_only=True
    )
    with ExitStack() as refused:
        refused.callback(reader.dispose)
        driver = Driver("PostgreSQL", postgres.version_of(reader), "server", "on")
        writer = postgres.make_engine(address, pool_size=1, wait_ms=BUSY_TIMEOUT_MS)
        upgrader = postgres.make_engine(address, pool_size=0, wait_ms=UPGRADE_TIMEOUT_MS, statement_ms=0)
        migrate.to_head(reader, upgrader, home)
        refused.pop_all()
    return Database(home, driver, writer=writer, reader=reader)


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

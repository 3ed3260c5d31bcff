"""A real PostgreSQL server for tests: made with `initdb`, started and ended with `pg_ctl`, killed by its pid.

`pytest --postgres` gives every test a fresh database of one server, or that of an earlier test, made as new;
what a test is about that only SQLite has is marked `sqlite_only`, with the reason.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest

from storage.engine import open_database

PLACES = "usr/lib/postgresql/*/bin"
"""Debian's, which are not on PATH."""
MISSING = (
    "The tests on PostgreSQL need its server: install postgresql (Debian: apt install postgresql), or put "
    "initdb and pg_ctl on PATH."
)
FAST = {
    **{"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "max_connections": "400"},
    **{"autovacuum": "off", "wal_level": "minimal", "max_wal_senders": "0", "checkpoint_timeout": "1h"},
}
"""For tests that do not kill the server."""
TEMPLATE = "migrated"
USES = 40
"""Of one database, by tests one after the other: what was deleted stays in its files, for nobody vacuums."""
SHAPE = """
    SELECT md5(string_agg(what, ' ' ORDER BY what)) FROM (
        SELECT concat_ws(':', oid, relname, relfilenode, reltuples > 0) FROM pg_class WHERE {ours}
        UNION ALL SELECT concat_ws(':', attrelid, attnum, attname, atttypid, attnotnull, atthasdef)
            FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid WHERE {ours}
        UNION ALL SELECT concat('constraint', oid) FROM pg_constraint
        UNION ALL SELECT concat('trigger', oid) FROM pg_trigger
        UNION ALL SELECT concat('function', oid) FROM pg_proc WHERE oid >= 16384
    ) AS all_there_is (what)
""".format(ours="relnamespace = 'public'::regnamespace")
"""Of the tables and what belongs to them; any statement that defines, truncates or analyzes changes it."""


def find_program(name: str) -> str | None:
    """The path of a program of PostgreSQL, of the newest version where there are several."""
    if found := shutil.which(name):
        return found
    places = list(Path("/").glob(f"{PLACES}/{name}"))
    return str(max(places, key=_version_in)) if places else None


def _version_in(path: Path) -> int:
    return max((int(part) for part in path.parts if part.isdigit()), default=0)


class Server:
    """One cluster in a folder of its own, on a free port of the loopback address."""

    def __init__(self, folder: Path, settings: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.settings = settings or {}
        self.data = folder / "data"
        self.port = _free_port()
        self._identity = _servant()
        self._pristine: Pristine | None = None
        self._spare: str | None = None
        self._uses = 0
        folder.mkdir(parents=True, exist_ok=True)
        if self._identity:
            os.chown(folder, self._identity.pw_uid, self._identity.pw_gid)

    def make(self) -> Server:
        """Makes the cluster and starts it; returns itself."""
        options = ["-U", "studio", "-A", "trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        self._run("initdb", "-D", str(self.data), *options)
        return self.start()

    def start(self) -> Server:
        """Starts the server and returns once it answers, after its recovery if it was killed."""
        told = {"port": str(self.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        told |= {"max_connections": "100", **self.settings}
        words = " ".join(f"-c {name}={value or repr('')}" for name, value in told.items())
        log = str(self.folder / "server.log")
        self._run("pg_ctl", "-D", str(self.data), "-o", words, "-l", log, "-w", "-t", "60", "start")
        return self

    def stop(self) -> None:
        """Ends the server in order."""
        self._run("pg_ctl", "-D", str(self.data), "-m", "immediate", "-w", "stop")

    def kill(self) -> None:
        """SIGKILL to the server and all of its processes, as a loss of power or the kernel's killer would."""
        family = [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(family, timeout=10)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    @property
    def pid(self) -> int:
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def url(self, database: str) -> str:
        return f"postgresql://studio@127.0.0.1:{self.port}/{database}"

    def sql(self, text: str, database: str = "postgres") -> None:
        """One statement outside of any transaction."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(text.encode())

    def make_template(self) -> None:
        """A database with the newest schema, of which the others are copies."""
        self.sql(f"CREATE DATABASE {TEMPLATE}")
        with tempfile.TemporaryDirectory() as home:
            open_database(Path(home), self.url(TEMPLATE)).close()
        with psycopg.connect(self.url(TEMPLATE), autocommit=True) as connection:
            self._pristine = Pristine.of(connection)

    @contextmanager
    def database(self, template: str = TEMPLATE) -> Iterator[str]:
        """The address of a fresh database that goes with the block, whoever uses it."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        if template != TEMPLATE or not self._take_spare(name):
            self.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield self.url(name)
        if template != TEMPLATE or not self._keep_as_spare(name):
            self.sql(f"DROP DATABASE {name} WITH (FORCE)")

    def _take_spare(self, name: str) -> bool:
        """An earlier test's database under a new name, so that nobody who is left of that test finds it."""
        spare, self._spare = self._spare, None
        if spare is None:
            return False
        try:
            self.sql(f"ALTER DATABASE {spare} RENAME TO {name}")
        except psycopg.errors.ObjectInUse:
            self.sql(f"DROP DATABASE {spare} WITH (FORCE)")
            return False
        return True

    def _keep_as_spare(self, name: str) -> bool:
        """Makes a database as new, in a tenth of the time of another; not where its tables are others now."""
        self._uses += 1
        if self._pristine is None or self._spare is not None or self._uses % USES == 0:
            return False
        try:
            with psycopg.connect(self.url(name), autocommit=True) as connection:
                is_as_new = self._pristine.restore(connection)
        except psycopg.errors.LockNotAvailable:  # somebody who is left of the test is at work there again
            return False
        self._spare = name if is_as_new else None
        return is_as_new

    def _run(self, name: str, *arguments: str) -> None:
        program = find_program(name)
        if program is None:
            pytest.exit(MISSING, returncode=2)
        who = self._identity
        said = subprocess.run(
            [program, *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # no pipe: the server would keep it open
            stderr=subprocess.DEVNULL,
            user=who.pw_uid if who else None,
            group=who.pw_gid if who else None,
            extra_groups=[] if who else None,
            check=False,
        )
        if said.returncode:
            log = self.folder / "server.log"
            tail = log.read_text()[-2000:] if log.exists() else ""
            raise RuntimeError(f"{name} ended with {said.returncode}: {tail}")


@dataclass(frozen=True)
class Pristine:
    """What a new database is, to make a used one that again."""

    shape: str
    tables: tuple[str, ...]
    rows: dict[str, bytes]
    """What the migrations themselves put there."""

    @classmethod
    def of(cls, connection: psycopg.Connection) -> Pristine:
        found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        tables = tuple(name for (name,) in found)
        return cls(_shape(connection), tables, {name: _rows(connection, name) for name in tables})

    def restore(self, connection: psycopg.Connection) -> bool:
        """Ends all others' connections and all that the test left; False where tables are not what they were.

        Raises:
            psycopg.errors.LockNotAvailable: somebody connected again and writes.
        """
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}".encode())
        if _shape(connection) != self.shape:
            return False
        with connection.transaction():
            connection.execute("SET LOCAL lock_timeout = 2000")
            connection.execute(
                "SET LOCAL session_replication_role = replica"
            )  # in any order, whatever refers
            connection.execute("; ".join(f'DELETE FROM "{name}"' for name in self.tables).encode())
            connection.execute("SELECT setval(oid::regclass, 1, false) FROM pg_class WHERE relkind = 'S'")
            for name, rows in self.rows.items():
                if rows:
                    with connection.cursor().copy(f'COPY "{name}" FROM STDIN'.encode()) as into:
                        into.write(rows)
        return True


def _shape(connection: psycopg.Connection) -> str:
    row = connection.execute(SHAPE.encode()).fetchone()
    assert row is not None
    return str(row[0])


def _rows(connection: psycopg.Connection, table: str) -> bytes:
    with connection.cursor().copy(f'COPY "{table}" TO STDOUT'.encode()) as out:
        return b"".join(out)


def _servant() -> pwd.struct_passwd | None:
    """Who the server runs as where the tests run as root, whom initdb refuses."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(settings: dict[str, str] | None = None) -> Iterator[Server]:
    """A new server that ends with the block. Its folder is not below pytest's, which one user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="flowgrpo-postgres-"))
    server = Server(folder, settings).make()
    try:
        yield server
    finally:
        with suppress(RuntimeError, FileNotFoundError):
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)

"""Moves the rows of a data folder from its SQLite file to a PostgreSQL server: all of them, or none.

Tables are made, filled and read back in one transaction of the server. Whatever goes wrong, the server is as
empty as before, and the file is only read in any case.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, Connection, inspect
from sqlalchemy.exc import StatementError

from storage import damage, filesystems, migrate, postgres
from storage.engine import UPGRADE_TIMEOUT_MS, choose_driver, make_engine
from storage.errors import DamagedError, SchemaError
from storage.failpoints import failpoint
from storage.presence import alone
from storage.table_copies import copy_all

DATABASE = "app.db"


@dataclass(frozen=True)
class Moved:
    """What is on the server now.

    Attributes:
        rows: of each table, in the order in which they were filled.
        file: the SQLite file, which is as it was.
    """

    rows: dict[str, int]
    file: Path


def to_postgres(home: Path, url: str) -> Moved:
    """Copies all rows of `home` into the empty database at `url`, and compares them there.

    Args:
        home: a data folder that nobody has open.
        url: postgresql://user@host:port/database, of a database without any table.

    Raises:
        ValueError: `url` is none of PostgreSQL, or the database there is not empty.
        LookupError: the folder has no SQLite file.
        SchemaError: the file's tables are not those of this program.
        DamagedError: the file is damaged.
        NotSavedError: the server cannot be used, did not take a row, or holds another one than it was given.
        OSError: the folder is open in another process. Nothing was changed, whichever it is.
    """
    address = _server_of(url)
    home = home.resolve()
    if not (home / DATABASE).is_file():
        if home.is_dir():
            damage.refuse_to_start_empty(home)
        raise LookupError(f"there is no {DATABASE} in {home}: name the data folder to move with --home")
    filesystems.refuse_network(home)
    with alone(home):
        try:
            with _file(home) as source, _server(address) as server:
                rows = copy_all(source, server)
                failpoint("to_postgres.before_commit")
        except StatementError as error:
            raise damage.told(home, error) from error
    return Moved(rows, home / DATABASE)


def _server_of(url: str) -> URL:
    address = postgres.address_of(url) if url else None
    if address is None:
        raise ValueError(
            f"{postgres.URL_VARIABLE} names no PostgreSQL server: set it to the address of an empty "
            "database, such as postgresql://user@host:5432/studio"
        )
    return address


@contextmanager
def _file(home: Path) -> Iterator[Connection]:
    """One moment of the file, once it is known to be sound; it cannot be written through this."""
    module, driver = choose_driver(home)
    address = f"sqlite:///{home / DATABASE}"
    engine = make_engine(address, module, driver, pool_size=0, begin="BEGIN", query_only=True)
    with engine.connect() as connection:
        _refuse_damage(connection, home)
        _refuse_other_schema(connection, home)
        yield connection


def _refuse_damage(source: Connection, home: Path) -> None:
    verdict = source.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
    if verdict != "ok":
        raise DamagedError(f"the database is damaged ({verdict}): {damage.advice(home)}")
    if dangling := source.exec_driver_sql("PRAGMA foreign_key_check").all():
        raise DamagedError(
            f"the database has {len(dangling)} rows that point to nothing, and a server takes none of these: "
            f"{damage.advice(home)}"
        )


def _refuse_other_schema(source: Connection, home: Path) -> None:
    version, head = migrate.version_in(source), migrate.head_of()
    if version == head:
        return
    if version is not None and version > head:
        advice = "install the newer version that wrote it"
    else:
        advice = f"start the studio once without {postgres.URL_VARIABLE}, which upgrades the file, and end it"
    raise SchemaError(f"{home / DATABASE} has schema {version}, and this program moves {head}: {advice}")


@contextmanager
def _server(address: URL) -> Iterator[Connection]:
    """One transaction on an empty database, in which it has our tables; committed when the block ends."""
    engine = postgres.make_engine(address, pool_size=0, wait_ms=UPGRADE_TIMEOUT_MS, statement_ms=0)
    postgres.version_of(engine)
    with engine.begin() as connection:
        if there := inspect(connection).get_table_names():
            raise ValueError(
                f"the database {address.database} is not empty, it has {len(there)} tables ({there[0]} is "
                "one): make a new one with createdb, and name it in DATABASE_URL"
            )
        migrate.migrate_in(connection, "upgrade", migrate.head_of())
        yield connection

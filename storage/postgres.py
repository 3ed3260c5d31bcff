"""PostgreSQL, for a team of many people or many hosts: how it is opened, and what is asked of the server.

All that is written rests on one rule of SQLite: one writer at a time, which sees all that was committed
before. Here every write begins with the same advisory lock and ends it with its transaction.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

URL_VARIABLE = "DATABASE_URL"
UNSAFE_VARIABLE = "FLOWGRPO_UNSAFE_POSTGRES"
"""Set to 1 it allows a server that loses what it acknowledged when the power fails: for tests."""
WRITERS = 0x666C_6F77_6772_706F
"""The advisory lock of all who write; one per database, as the server keeps them apart."""
PASSWORD_FILE = "password_file"
"""In an address, `?password_file=/run/secrets/name`: the password is the first line of that file, and stands
in no environment. It is ours alone; other clients of the server refuse it."""
_SYNTAX = "expected postgresql://user@host:port/database or sqlite:///file"
_IDLE_MS = 60_000
"""How long a host that went away in the middle of a write may keep the others waiting."""
_READ_IDLE_MS = 600_000
"""The same for a read, which keeps nobody waiting."""
_CONNECT = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "application_name": "flowgrpo",
}
"""What libpq is told where the address says nothing about it: a silent server is noticed within a minute."""


def is_asked_for() -> bool:
    """Whether this process finds its rows on a server, by its environment: then several hosts may share a
    data folder."""
    text = os.environ.get(URL_VARIABLE)
    return bool(text) and _parsed(str(text)) is not None


def libpq_address() -> str:
    """The address in the environment as other clients of the server take it, password and all.

    Raises:
        KeyError: there is none. ValueError: it is no address of a server.
    """
    url = address_of(os.environ[URL_VARIABLE])
    if url is None:
        raise ValueError(f"{URL_VARIABLE} names no server: {_SYNTAX}")
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def address_of(text: str) -> URL | None:
    """The address for this driver where it is one of PostgreSQL, with its password; None for one of SQLite.

    Raises:
        ValueError: neither, or its file of a password cannot be read. The text is not repeated, since it may
            hold a password.
    """
    url = _parsed(text)
    return None if url is None else _with_password(url)


def _parsed(text: str) -> URL | None:
    try:
        url = make_url(text)
    except ArgumentError:
        raise ValueError(f"the address of the database cannot be read: {_SYNTAX}") from None
    if url.get_backend_name() == "sqlite":
        return None
    if url.drivername not in ("postgresql", "postgresql+psycopg"):
        raise ValueError(f"expected PostgreSQL or SQLite, got {url.drivername}: {_SYNTAX}")
    return url.set(drivername="postgresql+psycopg")


def _with_password(url: URL) -> URL:
    """The address with the password of the file that it names, and without that name."""
    name = url.query.get(PASSWORD_FILE)
    if name is None:
        return url
    try:
        lines = Path(str(name)).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the password of the database cannot be read from {name}: {error}") from error
    if not lines or not lines[0].strip():
        raise ValueError(f"the password of the database is missing: the first line of {name} is empty")
    return url.difference_update_query([PASSWORD_FILE]).set(password=lines[0].strip())


def make_engine(
    url: URL,
    *,
    pool_size: int,
    wait_ms: int,
    statement_ms: int = _IDLE_MS,
    read_only: bool = False,
) -> Engine:
    """An engine whose every connection has the settings on which the promises rest; `pool_size` 0 keeps none.

    Args:
        wait_ms: how long it waits for a lock.
        statement_ms: how long one statement may take, and a write may stand still; 0 for any time.
        read_only: one consistent view per transaction, and no writes; otherwise one writer at a time.
    """
    pool: dict[str, Any] = {"pool_size": pool_size, "max_overflow": 0, "pool_timeout": 30}
    if pool_size == 0:
        pool = {"poolclass": NullPool}
    if read_only:
        pool |= {"isolation_level": "REPEATABLE READ", "execution_options": {"postgresql_readonly": True}}
    told = {name: value for name, value in _CONNECT.items() if name not in url.query}
    engine = create_engine(url, connect_args=told, pool_pre_ping=True, hide_parameters=False, **pool)
    settings = {
        "synchronous_commit": "on",
        "lock_timeout": wait_ms,
        "statement_timeout": statement_ms,
        "idle_in_transaction_session_timeout": _READ_IDLE_MS if read_only else statement_ms,
        "tcp_keepalives_idle": 30,
        "tcp_keepalives_interval": 10,
        "tcp_keepalives_count": 3,
        "timezone": "UTC",
        "jit": "off",  # compiling a short query takes longer than the query
    }
    words = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _: ConnectionPoolEntry) -> None:
        connection.autocommit = True  # what is set inside a transaction goes with it
        connection.execute(f"SELECT {words}")
        connection.autocommit = False

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if not read_only:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS})")

    return engine


def version_of(engine: Engine) -> str:
    """The server's version, once it is known to keep what it acknowledges.

    Raises:
        OSError: it does not, or its text is not Unicode.
    """
    names = ("server_version", "server_encoding", "fsync", "full_page_writes")
    asked = ", ".join(f"current_setting('{name}')" for name in names)
    with engine.connect() as connection:
        version, encoding, *safety = connection.exec_driver_sql(f"SELECT {asked}").one()
    if encoding != "UTF8":
        raise OSError(
            f"the database has the encoding {encoding}: make one with ENCODING 'UTF8' TEMPLATE template0"
        )
    if "off" in safety and os.environ.get(UNSAFE_VARIABLE) != "1":
        raise OSError(
            "the PostgreSQL server has fsync or full_page_writes off, so a loss of power would lose ratings: "
            f"turn both on, or set {UNSAFE_VARIABLE}=1 for a test"
        )
    return str(version).split(" ")[0]

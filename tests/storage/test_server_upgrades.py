"""A server's database of every released schema becomes the newest with every row and value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine, MetaData

from storage import migrate, postgres
from storage.engine import open_database
from storage.errors import SchemaError
from storage.migrate import ALLOW_VARIABLE, head_of
from tests.postgres import Server
from tests.storage.attention import counted
from tests.storage.populated import RELEASED, columns_of, content_of, populate
from tests.storage.test_migrations import upgrader

ROWS, RATINGS = 24, 300


@pytest.fixture
def empty(postgres_server: Server) -> Iterator[str]:
    with postgres_server.database("template0") as url:
        yield url


def as_of(revision: str, source: Engine, url: str) -> Engine:
    """The rows of a SQLite file in the server's own tables of that time."""
    server = postgres.make_engine(sa.make_url(url), pool_size=0, wait_ms=10_000)
    old, new = MetaData(), MetaData()
    old.reflect(source)
    with server.begin() as connection:
        migrate.migrate_in(connection, "upgrade", revision)
        new.reflect(connection)
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")  # keys go in a circle
        with source.connect() as reading:
            for table in new.sorted_tables:
                if table.name != "alembic_version":
                    connection.execute(table.delete())
                    written = [column for column in table.columns if column.computed is None]
                    rows = reading.execute(sa.select(*(old.tables[table.name].c[c.name] for c in written)))
                    connection.execute(table.insert(), [_row(written, row) for row in rows])
    return server


def _row(columns: list[sa.Column[Any]], row: sa.Row[Any]) -> dict[str, Any]:
    return {column.name: _value(column, value) for column, value in zip(columns, row, strict=True)}


def _value(column: sa.Column[Any], value: Any) -> Any:
    if isinstance(column.type, sa.DateTime) and value is not None:
        at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return at.replace(tzinfo=UTC)
    if isinstance(column.type, sa.JSON) and isinstance(value, str):
        return json.loads(value)
    return bool(value) if isinstance(column.type, sa.Boolean) and value is not None else value


@pytest.mark.parametrize("revision", RELEASED)
def test_every_row_and_value_of_a_released_schema_is_there_after_the_upgrade_of_a_server(
    home: Path, empty: str, revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    populate(home, revision, ROWS, RATINGS)
    source = upgrader(home)
    server = as_of(revision, source, empty)
    source.dispose()
    columns = columns_of(server)
    before = content_of(server, columns)
    assert min(count for count, _ in before.values()) >= ROWS
    monkeypatch.setenv("DATABASE_URL", empty)
    with pytest.raises(SchemaError, match="make a backup with pg_dump"):
        open_database(home)
    assert content_of(server, columns) == before
    monkeypatch.setenv(ALLOW_VARIABLE, "1")
    db = open_database(home)
    assert all(kept == rows_say for kept, rows_say in counted(db).values())
    db.close()
    assert migrate.current_version(server) == head_of()
    assert content_of(server, columns) == before
    assert before["rating_event"][0] == RATINGS
    server.dispose()

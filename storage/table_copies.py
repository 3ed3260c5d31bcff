"""Copies every table from one of our databases to another one, and compares what arrived with what left."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Column, Connection, Table, func, select

from storage import models_access, models_judging, models_studio
from storage.errors import NotSavedError
from storage.models import Record
from storage.types import canonical_json

_BATCH = 1_000
"""Rows in memory at a time."""
_MANY = 2**256
_KNOWN = (models_access, models_judging, models_studio)
"""Modules whose import makes `Record` know all tables."""


@dataclass
class Content:
    """What a table holds, in whatever order its rows come.

    Attributes:
        rows: how many.
        digest: the sum of their SHA-256, modulo 2^256.
    """

    rows: int = 0
    digest: int = 0

    def add(self, row: Sequence[Any]) -> None:
        """Counts one row in."""
        words = repr([_plain(value) for value in row]).encode("utf-8", "surrogatepass")
        self.rows += 1
        self.digest = (self.digest + int.from_bytes(hashlib.sha256(words).digest())) % _MANY


def copy_all(source: Connection, server: Connection) -> dict[str, int]:
    """Puts the rows of all tables of `source` in the place of those of `server`: rows of each table.

    Args:
        source: a database with the schema of this program.
        server: one of PostgreSQL with the same, in a transaction that is undone where this raises.

    Raises:
        NotSavedError: the server did not take a row, or holds something else than it was given.
    """
    tables = Record.metadata.sorted_tables
    for table in reversed(tables):
        server.execute(table.delete())
    return {table.name: _copied(source, server, table) for table in tables}


def columns_of(table: Table) -> list[Column[Any]]:
    """Those that are written; the others the database computes from them."""
    return [column for column in table.columns if column.computed is None]


def _copied(source: Connection, server: Connection, table: Table) -> int:
    given = Content()
    try:
        _fill(server, table, _counted(_rows(source, table.columns), given, table))
    except server.dialect.loaded_dbapi.Error as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NotSavedError(
            f"Nothing was moved: the server did not take the rows of {table.name} ({reason}). Mend that, "
            "then try again."
        ) from error
    found = Content()
    for row in _rows(server, table.columns):
        found.add(row)
    if found != given:
        raise NotSavedError(
            f"Nothing was moved: of {given.rows:,} rows of {table.name} the server holds {found.rows:,}, and "
            "not the same. Its text must be Unicode (ENCODING 'UTF8'); if it is, report this."
        )
    _count_on(server, table)
    return found.rows


def _rows(connection: Connection, columns: Any) -> Iterator[Sequence[Any]]:
    yield from connection.execute(select(*columns), execution_options={"yield_per": _BATCH})


def _counted(rows: Iterator[Sequence[Any]], content: Content, table: Table) -> Iterator[list[Any]]:
    """Passes on what is written of each row, all of which is counted, computed values included."""
    written = [index for index, column in enumerate(table.columns) if column.computed is None]
    for row in rows:
        content.add(row)
        yield [row[index] for index in written]


def _fill(server: Connection, table: Table, rows: Iterator[list[Any]]) -> None:
    """One statement for all rows: keys are looked at after it, so that a row may come before its parent."""
    quote = server.dialect.identifier_preparer.quote
    columns = columns_of(table)
    names = ", ".join(quote(column.name) for column in columns)
    binds = [column.type.dialect_impl(server.dialect).bind_processor(server.dialect) for column in columns]
    driver: Any = server.connection.driver_connection
    with (
        driver.cursor() as cursor,
        cursor.copy(f"COPY {quote(table.name)} ({names}) FROM STDIN") as copy,
    ):
        for row in rows:
            copy.write_row(
                [value if bind is None else bind(value) for bind, value in zip(binds, row, strict=True)]
            )


def _count_on(server: Connection, table: Table) -> None:
    """The server numbers the next row after the last one that came with a number of its own."""
    column = table.autoincrement_column
    if column is None:
        return
    name = server.dialect.identifier_preparer.quote(table.name)
    sequence = server.scalar(select(func.pg_get_serial_sequence(name, column.name)))
    last = server.scalar(select(func.max(column)))
    if sequence is not None and last is not None:
        server.execute(select(func.setval(sequence, last)))


def _plain(value: Any) -> Any:
    """One form of what the two databases give back in different ones: times, and JSON with its numbers."""
    if isinstance(value, datetime):
        return value.isoformat()
    plain = _same_numbers(value)
    return canonical_json(plain) if isinstance(plain, dict | list) else plain


def _same_numbers(value: Any) -> Any:
    """JSONB keeps decimals, not floats: 1e22 comes back as a whole number, -0.0 without its sign."""
    if isinstance(value, dict):
        return {key: _same_numbers(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_same_numbers(one) for one in value]
    return int(Decimal(repr(value))) if isinstance(value, float) and value.is_integer() else value

"""Databases of every released schema, rows in every table of then by plain SQL; and hashes to compare."""

from __future__ import annotations

import hashlib
import random
import re
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, MetaData, Table

from storage import migrate
from storage.migrate import SCRIPTS, run_migrations
from tests.storage.test_migrations import upgrader

RELEASED = sorted(path.name[:4] for path in (SCRIPTS / "versions").glob("[0-9]*.py"))[:-1]
"""Every schema that has a later one."""
_IMAGES_A_GROUP = 4
_LISTED = re.compile(r"\"?(\w+)\"? IN \(([^)]*)\)")
Choices = dict[str, list[str]]
"""Column to what its CHECK allows."""


def populate(home: Path, revision: str, rows: int, ratings: int, seed: int = 0) -> None:
    """A data folder as a program of that time left it: `rows` of every table, and `ratings` ratings."""
    for name in ("locks", "blobs"):
        (home / name).mkdir(parents=True, exist_ok=True)
    engine = upgrader(home)
    run_migrations(engine, "upgrade", revision)
    tables = MetaData()
    tables.reflect(engine)
    chance = random.Random(seed)
    with engine.begin() as connection:
        for table in tables.sorted_tables:
            if table.name != "alembic_version":
                count = ratings if table.name == "rating_event" else rows
                allowed = _allowed(connection, table.name)
                made = [_row(table, allowed, number, rows, chance) for number in range(count)]
                _insert(connection, table, made)
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    engine.dispose()


def _insert(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    columns = [column.name for column in table.columns if column.computed is None]
    names = ", ".join(f'"{name}"' for name in columns)
    marks = ", ".join("?" * len(columns))
    values = [tuple(row[name] for name in columns) for row in rows]
    connection.exec_driver_sql(f'INSERT INTO "{table.name}" ({names}) VALUES ({marks})', values)


def _allowed(connection: Connection, table: str) -> Choices:
    checks = [one["sqltext"] for one in sa.inspect(connection).get_check_constraints(table)]
    listed = [match for check in checks for match in _LISTED.findall(check)]
    return {column: [value.strip().strip("'") for value in values.split(",")] for column, values in listed}


def _row(table: Table, allowed: Choices, number: int, rows: int, chance: random.Random) -> dict[str, Any]:
    made = {column.name: _value(table, column, number, rows, chance) for column in table.columns}
    made |= {name: values[number % len(values)] for name, values in allowed.items()}
    return made | ({"value": number % 5 + 1} if table.name == "rating_event" else {})


def _value(table: Table, column: sa.Column[Any], number: int, rows: int, chance: random.Random) -> Any:
    for key in column.foreign_keys:
        return _parent(table, key.column.table.name, number, rows)
    if column.name == "id" and not isinstance(column.type, sa.Integer):
        return own_id(table.name, number)
    if (table.name, column.name) == ("image", "index"):
        return number % _IMAGES_A_GROUP
    return _plain(column, number, chance)


def own_id(table: str, number: int) -> str:
    """36 characters, as a UUID has."""
    return f"{table[:20]}-{number:08d}".rjust(36, "0")


def _parent(table: Table, parent: str, number: int, rows: int) -> str:
    if table.name == "image":
        return own_id(parent, number // _IMAGES_A_GROUP)
    return own_id(parent, number % rows)


def _plain(column: sa.Column[Any], number: int, chance: random.Random) -> Any:
    kind = column.type
    if isinstance(kind, sa.DateTime):
        return f"2026-01-{number % 28 + 1:02d} 03:04:05.{number % 1_000_000:06d}"
    if isinstance(kind, sa.JSON):
        return f'{{"n": {number}, "x": {chance.random()!r}, "ü": ["猫", null]}}'
    if isinstance(kind, sa.Boolean):
        return number % 2
    if isinstance(kind, sa.Integer):
        return number + 1
    if isinstance(kind, sa.Float):
        return chance.gauss(0, 1)
    if isinstance(kind, sa.LargeBinary):
        return chance.randbytes(64)
    if isinstance(kind, sa.String) and kind.length == 64:
        return f"{chance.getrandbits(256):064x}"
    return f"{column.name} {number} “猫” {chance.random()!r}"[: getattr(kind, "length", None)]


def columns_of(engine: Engine) -> dict[str, list[str]]:
    """Table name to its columns."""
    look = sa.inspect(engine)
    names = (name for name in look.get_table_names() if name != "alembic_version")
    return {name: [column["name"] for column in look.get_columns(name)] for name in names}


def content_of(engine: Engine, columns: dict[str, list[str]]) -> dict[str, tuple[int, dict[str, str]]]:
    """Table name to its number of rows and, of each of these columns, a hash of all its values."""
    with engine.connect() as connection:
        return {name: _content(connection, name, listed) for name, listed in columns.items()}


def _content(connection: Connection, table: str, columns: list[str]) -> tuple[int, dict[str, str]]:
    key = ", ".join(
        f'"{name}"' for name in sa.inspect(connection).get_pk_constraint(table)["constrained_columns"]
    )
    hashes = {}
    count = 0
    for column in columns:
        values = (
            connection.exec_driver_sql(f'SELECT "{column}" FROM "{table}" ORDER BY {key}').scalars().all()
        )
        count = len(values)
        hashes[column] = hashlib.sha256(repr(values).encode()).hexdigest()
    return count, hashes


def schema_of(home: Path) -> str | None:
    """The revision that a folder has."""
    engine = upgrader(home)
    version = migrate.current_version(engine)
    engine.dispose()
    return version

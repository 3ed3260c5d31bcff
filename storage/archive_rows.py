"""What the rows of an archive may name: rows become paths, so none may lead out of the data folder."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath

from storage.archive_rules import ArchiveError

_ID = re.compile(r"[\w\-]{1,64}", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{64}")
_FREE = ("worker_id",)
"""Named like an id, and never part of a path: a host and its device."""
_PATHS = {"checkpoint": "a checkpoint", "export": "an export", "dataset": "a dataset"}
"""Tables with a column `path`, and what one row is called."""


def check_rows(database: Path) -> None:
    """Raises ArchiveError for a row with an id, a path or a hash that is none of ours."""
    with closing(sqlite3.connect(database)) as connection:
        for table, column in _ids(connection):
            for value in _values(connection, table, column):
                if not isinstance(value, int) and not _ID.fullmatch(str(value)):
                    raise ArchiveError(
                        f"a row of {table!r} has the {column} {str(value)[:80]!r}, "
                        "which this program never made: the archive was changed"
                    )
        for table, called in _PATHS.items():
            for path in map(str, _values(connection, table, "path")):
                is_pointed_at = table == "dataset" and PurePosixPath(path).is_absolute()  # by an admin, once
                if _leads_out(path) and not (is_pointed_at and ".." not in path):
                    raise ArchiveError(
                        f"{called} of the archive lies at {path[:200]!r}, outside of its folder"
                    )
        if not all(_HASH.fullmatch(str(value)) for value in _values(connection, "image", "sha256")):
            raise ArchiveError("an image of the archive has a name that is no hash")


def _leads_out(path: str) -> bool:
    return PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or "\\" in path


def _ids(connection: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Table and column of everything that is an id."""
    for table in _tables(connection):
        for _, column, *_ in connection.execute(f'PRAGMA table_info("{table}")'):
            if column == "id" or (column.endswith("_id") and column not in _FREE):
                yield table, column


def _tables(connection: sqlite3.Connection) -> list[str]:
    named = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    return [name for (name,) in named if re.fullmatch(r"\w+", name)]


def _values(connection: sqlite3.Connection, table: str, column: str) -> Iterator[object]:
    if table in _tables(connection):
        wanted = f'SELECT DISTINCT "{column}" FROM "{table}" WHERE "{column}" IS NOT NULL'
        yield from (value for (value,) in connection.execute(wanted))

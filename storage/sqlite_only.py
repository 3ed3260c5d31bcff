"""What works on a SQLite file alone is refused elsewhere, with what to use there."""

from __future__ import annotations

from storage import postgres
from storage.engine import Database


def refuse_server(doing: str, db: Database | None = None) -> None:
    """Raises ValueError where the database is a server's.

    Args:
        doing: such as "backup"; stands in the sentence.
        db: an open one; without it the environment says.
    """
    if not is_file(db):
        raise ValueError(
            f"{doing} is for the SQLite file of a data folder, and this database is on a PostgreSQL server: "
            "use pg_dump and pg_restore there, and copy the data folder beside it"
        )


def is_file(db: Database | None = None) -> bool:
    """Whether the database is a file of the data folder."""
    if db is not None:
        return db.is_sqlite
    return not postgres.is_asked_for()

"""What can go wrong between a person and the disk, in their words."""

from __future__ import annotations

from sqlalchemy.exc import (
    DatabaseError,
    DBAPIError,
    IntegrityError,
    OperationalError,
    SQLAlchemyError,
    StatementError,
)

_TOO_LONG = "another process kept the database busy for too long: try again"
BUSY = f"Not saved: {_TOO_LONG}."
_TROUBLE = {
    5: _TOO_LONG,
    6: _TOO_LONG,
    8: "the data folder is read-only: make it writable, then try again",
    10: "the disk is full or cannot be written: free some space, then try again",
    11: "the database file is damaged: stop the program, then `python app.py restore` puts a backup back",
    13: "the disk is full: free some space, then try again",
    14: "the database file cannot be opened: check the disk and the rights of the data folder",
    26: "the database file is damaged: stop the program, then `python app.py restore` puts a backup back",
}
"""SQLite's primary result codes (sqlite.org/rescode.html) to sentences."""
_LOST = "the database server cannot be reached: check that it runs, then try again"
_SERVER_TROUBLE = {
    "08": _LOST,
    "57P": _LOST,
    "25P": "the database server ended the write, which stood still for too long: try again",
    "25006": "the database server takes no writes now: ask who looks after it",
    "28": "the database server refuses this user: check the name and password of DATABASE_URL",
    "3D": "the database server has no such database: make it, or correct DATABASE_URL",
    "40": _TOO_LONG,
    "42501": "this user may not do that in the database: ask who looks after the server",
    "53": "the database server is short of memory or connections: try again",
    "53100": "the disk of the database server is full: free some space there, then try again",
    "53300": "the database server has no connection left: raise its max_connections, then try again",
    "55P03": _TOO_LONG,
    "57014": _TOO_LONG,
    "58": "the disk of the database server cannot be written: ask who looks after it",
    "XX001": "the database is damaged: stop the program and restore a backup",
    "XX002": "an index of the database is damaged: stop the program and ask who looks after the server",
}
"""PostgreSQL's SQLSTATEs (its manual, appendix A), whole or their beginning, to sentences."""
_REFUSALS = {"password": "28", "role": "28", "too many c": "53300", "does not exist": "3D"}


class NotSavedError(OSError):
    """Nothing of the transaction was kept; the same call may be made again with the same keys.

    A server may go away between its COMMIT and the word about it: then all of it was kept. What must not
    happen twice carries a key of its own, by which the second call finds the first.
    """


class UnreadableError(OSError):
    """The database could not be read just now."""


class DamagedError(OSError):
    """A database file is damaged, or none of ours; the sentence says which, and what to do."""


class SchemaError(RuntimeError):
    """The data folder and this version of the program do not fit."""


class StaleAttemptError(RuntimeError):
    """A process of an earlier attempt tried to write for a run that has moved on; it must end."""


UNAVAILABLE: tuple[type[Exception], ...] = (NotSavedError, UnreadableError, OperationalError)
"""What a busy, full or missing database raises: who can wait tries again, training never stops for it."""

ANY: tuple[type[Exception], ...] = (NotSavedError, UnreadableError, SQLAlchemyError)
"""All that a call into storage raises beside its own ValueError and LookupError; the rest are bugs."""


def is_damage(error: StatementError) -> bool:
    """Whether SQLite says that the file itself is at fault."""
    return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in (11, 26)


def in_words(error: StatementError, *, writing: bool) -> Exception:
    """The error that a caller can show; what is a bug (a constraint, bad SQL) comes back unchanged."""
    if not isinstance(error, DBAPIError):
        # A column type refused the value; its own sentence is the one to show.
        return error.orig if isinstance(error.orig, ValueError) else error
    sentence = _sentence_of(error, writing)
    if sentence is None or isinstance(error, IntegrityError):
        return error
    return NotSavedError(f"Not saved: {sentence}.") if writing else UnreadableError(f"Not read: {sentence}.")


def _sentence_of(error: DBAPIError, writing: bool) -> str | None:
    if hasattr(error.orig, "sqlstate"):
        return _server_sentence(error, getattr(error.orig, "sqlstate", None), writing)
    if isinstance(error, DatabaseError):
        return _TROUBLE.get(getattr(error.orig, "sqlite_errorcode", 0) & 0xFF)
    return None


def _server_sentence(error: DBAPIError, state: str | None, writing: bool) -> str | None:
    if state == "25006" and not writing:
        return None  # somebody wrote in a read
    if state is not None:
        known = [start for start in _SERVER_TROUBLE if state.startswith(start)]
        return _SERVER_TROUBLE[max(known, key=len)] if known else None
    if not (isinstance(error, OperationalError) or error.connection_invalidated):
        return None
    # No state: there was no connection to get one over, and why is said in the text alone.
    for words, meant in _REFUSALS.items():
        if words in str(error.orig):
            return _SERVER_TROUBLE[meant]
    return _LOST

"""What can go wrong between a person and the disk, in their words."""

from __future__ import annotations

from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError, SQLAlchemyError, StatementError

_TOO_LONG = "another process kept the database busy for too long: try again"
BUSY = f"Not saved: {_TOO_LONG}."
_TROUBLE = {
    5: _TOO_LONG,
    6: _TOO_LONG,
    8: "the data folder is read-only: make it writable, then try again",
    10: "the disk is full or cannot be written: free some space, then try again",
    11: "the database file is damaged: stop the program and restore a backup",
    13: "the disk is full: free some space, then try again",
    14: "the database file cannot be opened: check the disk and the rights of the data folder",
    26: "the database file is damaged: stop the program and restore a backup",
}
"""SQLite's primary result codes (sqlite.org/rescode.html) to sentences."""


class NotSavedError(OSError):
    """Nothing of the transaction was kept; the same call may be made again with the same keys."""


class UnreadableError(OSError):
    """The database could not be read just now."""


class SchemaError(RuntimeError):
    """The data folder and this version of the program do not fit."""


class StaleAttemptError(RuntimeError):
    """A process of an earlier attempt tried to write for a run that has moved on; it must end."""


UNAVAILABLE: tuple[type[Exception], ...] = (NotSavedError, UnreadableError, OperationalError)
"""What a busy, full or missing database raises: who can wait tries again, training never stops for it."""

ANY: tuple[type[Exception], ...] = (NotSavedError, UnreadableError, SQLAlchemyError)
"""All that a call into storage raises beside its own ValueError and LookupError; the rest are bugs."""


def in_words(error: StatementError, *, writing: bool) -> Exception:
    """The error that a caller can show; what is a bug (a constraint, bad SQL) comes back unchanged."""
    if not isinstance(error, DatabaseError):
        # A column type refused the value; its own sentence is the one to show.
        return error.orig if isinstance(error.orig, ValueError) else error
    sentence = _TROUBLE.get(getattr(error.orig, "sqlite_errorcode", 0) & 0xFF)
    if sentence is None or isinstance(error, IntegrityError):
        return error
    return NotSavedError(f"Not saved: {sentence}.") if writing else UnreadableError(f"Not read: {sentence}.")

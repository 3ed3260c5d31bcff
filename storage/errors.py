"""What can go wrong between a person and the disk, in their words."""

from __future__ import annotations

from sqlalchemy.exc import DatabaseError, IntegrityError

_BUSY = frozenset({5, 6})
_READ_ONLY, _IO, _CORRUPT, _FULL = 8, 10, 11, 13


class NotSavedError(OSError):
    """Nothing of the transaction was kept; the same call may be made again with the same keys."""


class SchemaError(RuntimeError):
    """The data folder and this version of the program do not fit."""


class StaleAttemptError(RuntimeError):
    """A process of an earlier attempt tried to write for a run that has moved on; it must end."""


def not_saved(error: DatabaseError) -> Exception:
    """The sentence for a failed write; errors that are bugs (constraints) come back unchanged."""
    if isinstance(error, IntegrityError):
        return error
    code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
    if code in _BUSY:
        return NotSavedError("Not saved: another process kept the database busy for 10 s. Try again.")
    if code in (_FULL, _IO):
        return NotSavedError(
            "Not saved: the disk is full or cannot be written. Free some space, then try again."
        )
    if code == _READ_ONLY:
        return NotSavedError("Not saved: the data folder is read-only. Make it writable, then try again.")
    if code == _CORRUPT:
        return NotSavedError(
            "Not saved: the database file is damaged. Stop the program and restore a backup."
        )
    return error

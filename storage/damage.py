"""A database that cannot be used: said with the newest good backup. Nobody ever starts with an empty one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.exc import StatementError

from storage.copies import backups_of, newest_good
from storage.errors import DamagedError, in_words, is_damage

ASIDE = "damaged"
"""Folder of the data folder: databases that were replaced by a backup."""
_UNITS = ((86_400, "days"), (3_600, "hours"), (60, "minutes"))


def refuse_to_start_empty(home: Path, name: str = "app.db") -> None:
    """Raises DamagedError where the database has gone from a folder that has been used."""
    database = home / name
    if database.exists() and database.stat().st_size > 0:
        return
    has_images = any(True for _ in (home / "blobs").glob("*/*"))
    if has_images or backups_of(home) or (home / ASIDE).exists():
        state = "is empty" if database.exists() else "is missing"
        raise DamagedError(
            f"the database {database} {state}, though the folder has been used: {advice(home)}"
        )


def told(home: Path, error: StatementError) -> Exception:
    """The error that a person can act on; a damaged file comes with the newest good backup."""
    if is_damage(error):
        return DamagedError(f"the database file is damaged ({error.orig}): {advice(home)}")
    return in_words(error, writing=True)


def advice(home: Path) -> str:
    """What to do now, with the newest good backup and its age."""
    found = newest_good(home)
    if found is None:
        return (
            f"there is no good backup in {home / 'backups'}; "
            "`python app.py restore --from FILE` takes one from elsewhere"
        )
    backup, content = found
    age = age_words((datetime.now(UTC) - backup.at).total_seconds())
    return (
        f"the newest good backup is {backup.path.name}, {age} old, with {content.ratings:,} ratings and "
        f"{content.images:,} images; `python app.py restore` puts it in place and keeps the damaged file"
    )


def age_words(seconds: float) -> str:
    """An age as people say it: 3 minutes, 2 days."""
    for size, unit in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} seconds"

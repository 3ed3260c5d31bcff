"""Whether images that people download say how they were made.

Files keep that text always: it is taken out where an image is served, so that the setting holds for what was
drawn before it too, and can be taken back.
"""

from __future__ import annotations

from storage.engine import Database
from storage.settings import get_setting, put_setting

KEY = "image_text"


def carries_text(db: Database) -> bool:
    """True where nobody set it."""
    return bool(get_setting(db, KEY, True))


def set_carries_text(db: Database, value: bool, by: str = "local") -> None:
    """Sets it, audited."""
    put_setting(db, KEY, bool(value), by)

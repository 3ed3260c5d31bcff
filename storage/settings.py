"""What holds for everybody here: one value a key, and who set it last."""

from __future__ import annotations

from typing import Any

from storage import audit
from storage.engine import Database
from storage.models_studio import Setting
from storage.types import utc_now


def get_setting(db: Database, key: str, default: Any = None) -> Any:
    """The value of a key; the default where nobody set it."""
    with db.read() as session:
        found = session.get(Setting, key)
        return default if found is None else found.value


def put_setting(db: Database, key: str, value: Any, by: str = "local") -> None:
    """Sets a key, and notes who did."""
    with db.write() as session:
        found = session.get(Setting, key)
        if found is None:
            session.add(Setting(key=key, value=value, changed_by=by))
        else:
            found.value, found.changed_by, found.changed_at = value, by, utc_now()
        audit.note(session, by, "setting", key, {"value": value})

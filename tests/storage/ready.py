"""A data folder that is new, without the second that its migrations take: they ran once for all tests."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path

from storage.engine import open_database


def ready(home: Path) -> Path:
    """The folder itself; where it has no database yet it gets one of the newest schema, with nothing in it. A
    server has its own.
    """
    home.mkdir(parents=True, exist_ok=True)
    path = home / "app.db"
    if not os.environ.get("DATABASE_URL") and not path.exists():
        path.write_bytes(_new_database())
    return home


@cache
def _new_database() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        open_database(Path(folder) / "home").close()
        return (Path(folder) / "home" / "app.db").read_bytes()

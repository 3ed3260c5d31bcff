"""Opens a data folder for a command of the front door, and notes the bases that it is to offer."""

from __future__ import annotations

import json
from pathlib import Path

from storage.checkpoints import other_base, register_base
from storage.engine import Database, open_database
from storage.errors import SchemaError
from storage.shutdown import check_after_crash


def open_with(home: Path, starter: Path, base: Path | None = None) -> Database:
    """The data folder, with the starter and another base (a diffusers folder) noted in it.

    Raises:
        ValueError: the folder cannot be used, or the base is none; a sentence for who called the command.
    """
    try:
        db = open_database(home.resolve())
        check_after_crash(db)
        if starter.is_dir():
            _register(db, "starter", starter)
        if base is not None:
            _check_name(db, base)
            _register(db, base.name, base)
    except (SchemaError, OSError) as error:
        raise ValueError(f"The data folder {home} cannot be used: {error}") from error
    return db


def _check_name(db: Database, folder: Path) -> None:
    if other := other_base(db, folder.name, str(folder.resolve())):
        raise ValueError(
            f"A base named {folder.name} is known already, from {other}: rename the folder {folder}, "
            "so that the checkpoints of the two are not mixed up."
        )


def _register(db: Database, name: str, folder: Path) -> None:
    index = folder / "model_index.json"
    if not index.is_file():
        raise ValueError(f"{folder} is not a diffusers folder: it has no model_index.json.")
    family = str(json.loads(index.read_text()).get("_class_name", "unknown"))
    register_base(db, name=name, source=str(folder.resolve()), family=family)

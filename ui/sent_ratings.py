"""Ratings from a browser: one file, or an archive whose files get their places back; a job reads them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

from storage import imports
from storage.engine import Database
from ui.archives import unpacked
from ui.forms import Refused
from ui.receiving import Received

ENDINGS: Final = (".zip", ".parquet", ".json", ".jsonl")
_INSIDE: Final = (*ENDINGS[1:], ".md", ".png", ".jpg", ".jpeg", ".webp")
"""Of an archive's files; the others are left out."""
MAX_NAME: Final = 200
"""Bytes of each part of a file's place."""


def keep_ratings(db: Database, form: Received, folder: Path, by: str) -> dict[str, Any]:
    """Puts what was sent where the job finds it, and asks for the job: {"job": its id}.

    Raises Refused for what can be no file of ratings.
    """
    if len(form.files) != 1:
        raise Refused("Choose one file: a .zip, a .parquet, a .json or a .jsonl with ratings.")
    name = form.files[0][0].replace("\\", "/").rpartition("/")[2][:MAX_NAME]
    if not name.lower().endswith(ENDINGS):
        raise Refused(f"The file {name} is of no known format: expected {', '.join(ENDINGS)}.")
    (folder / "unpacked").mkdir()
    placed = list(_placed(unpacked([(name, form.files[0][1])], folder / "unpacked")))
    if not any(place.suffix in ENDINGS for place, _ in placed):
        raise Refused(f"The archive {name} has no .parquet, .json or .jsonl: choose one with ratings.")
    upload, target = imports.new_folder(db)
    try:
        _move(placed, target)
        return {"job": imports.request_ratings(db, upload=upload, origin=name, by=by).id}
    except (OSError, Refused):  # no room for the files, or none for the row
        shutil.rmtree(target, ignore_errors=True)
        raise


def _placed(files: Sequence[tuple[str, Path]]) -> Iterator[tuple[PurePosixPath, Path]]:
    """What is of use, at the place that it asks for, which lies below a folder of ours."""
    for name, path in files:
        place = PurePosixPath(name.replace("\\", "/"))
        hidden = any(part.startswith((".", "__")) for part in place.parts)
        if hidden and ".." not in place.parts:
            continue
        if place.is_absolute() or ".." in place.parts or "\0" in name:
            raise Refused(f"The archive has a file that leads out of it, {name[:80]}: make it again.")
        if any(len(part.encode()) > MAX_NAME for part in place.parts):
            raise Refused(f"The archive has a file with a name that is too long, {name[:80]}: make it again.")
        if place.suffix.lower() in _INSIDE:
            yield place, path


def _move(placed: Sequence[tuple[PurePosixPath, Path]], target: Path) -> None:
    for place, path in placed:
        there = target / place
        there.parent.mkdir(parents=True, exist_ok=True)
        if there.exists():
            raise Refused(f"The archive has the file {place} twice: make it again.")
        path.rename(there)

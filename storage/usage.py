"""How much of the disk each part of the data folder takes: counted file by file, so never on a request."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from storage.types import utc_now

PARTS = (
    "blobs",
    "thumbs",
    "runs",
    "rollouts",
    "exports",
    "datasets",
    "models",
    "evaluations",
    "backups",
    "tmp",
)
"""Folders of the data folder that are told one by one; all else is "other"."""
DATABASE = ("app.db", "app.db-wal", "app.db-shm", "app.db-journal")


@dataclass(frozen=True)
class Measured:
    """Bytes at one time.

    Attributes:
        parts: of each of PARTS that is there, of "database" and of "other".
        runs: of each folder under runs/, by its name: the run's id.
        free, total: of the disk that the data folder is on.
    """

    at: datetime
    parts: dict[str, int]
    runs: dict[str, int]
    free: int
    total: int


def measure(home: Path) -> Measured:
    """Counts every file below the data folder; a file that goes meanwhile counts as nothing."""
    parts = {"database": 0, "other": 0}
    runs: dict[str, int] = {}
    for entry in _entries(home):
        if entry.name == "runs" and entry.is_dir(follow_symlinks=False):
            runs = {run.name: _size(run) for run in _entries(home / "runs")}
        part = "database" if entry.name in DATABASE else entry.name if entry.name in PARTS else "other"
        parts[part] = parts.get(part, 0) + (sum(runs.values()) if part == "runs" else _size(entry))
    disk = shutil.disk_usage(home)
    return Measured(utc_now(), parts, runs, disk.free, disk.total)


def _size(entry: os.DirEntry[str]) -> int:
    """Of a file, or of all below a folder; links count as themselves."""
    try:
        if not entry.is_dir(follow_symlinks=False):
            return entry.stat(follow_symlinks=False).st_size
    except OSError:
        return 0
    return sum(_size(inner) for inner in _entries(Path(entry.path)))


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            yield from list(found)
    except OSError:
        return

"""What makes a file last: it is on the disk before its name is, and the name before anybody hears of it."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Returns when a file, or the names in a folder, are on the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def put_in_place(partial: Path, target: Path) -> None:
    """Gives a finished file its name: all of it is there, or nothing. What had the name is replaced."""
    sync(partial)
    partial.replace(target)
    sync(target.parent)

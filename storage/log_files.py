"""Logs on disk: one file that grows, and a few older ones that it was before (log.txt, log.1.txt, ...)."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

KEPT = 2
"""Older files beside the one that grows; what was in them before is gone."""


def older(path: Path, number: int) -> Path:
    """The file that the log was `number` rotations ago."""
    return path.with_suffix(f".{number}{path.suffix}")


def rotate(path: Path) -> None:
    """Puts the log aside; the next line begins a new file."""
    for number in range(KEPT, 0, -1):
        before = older(path, number - 1) if number > 1 else path
        with suppress(FileNotFoundError):
            before.replace(older(path, number))


def files_of(path: Path) -> list[Path]:
    """The files of a log that are there, oldest first."""
    return [one for one in (*(older(path, n) for n in range(KEPT, 0, -1)), path) if one.is_file()]


def size_of(path: Path) -> int:
    """Bytes of all files of a log; 0 where there is none."""
    total = 0
    for one in files_of(path):
        with suppress(OSError):
            total += one.stat().st_size
    return total


def end_of(path: Path, max_bytes: int) -> bytes:
    """The last bytes of a log; those before a rotation are among them."""
    found = b""
    for one in reversed(files_of(path)):
        if len(found) >= max_bytes:
            break
        with suppress(FileNotFoundError), one.open("rb") as file:  # put aside between two looks
            file.seek(max(0, os.fstat(file.fileno()).st_size - (max_bytes - len(found))))
            found = file.read(max_bytes - len(found)) + found
    return found

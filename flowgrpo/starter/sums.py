"""Hashes of the shipped weights, in the form that `sha256sum --check` reads too."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

SUMS: Final = "SHA256SUMS"
"""Beside the weights; it names every other file there."""


def write_sums(weights: Path) -> Path:
    """Writes the hashes of all files in a folder, and returns their file."""
    lines = [f"{_hash(weights / name)}  {name}\n" for name in _names(weights)]
    (weights / SUMS).write_text("".join(lines), encoding="utf-8")
    return weights / SUMS


def wrong_sums(weights: Path) -> list[str]:
    """Names of files that are missing, too many, or not as they were when their hashes were written."""
    path = weights / SUMS
    if not path.is_file():
        return [SUMS]
    lines = [line.partition("  ") for line in path.read_text(encoding="utf-8").splitlines() if line]
    told = {name: digest for digest, _, name in lines}
    there = _names(weights)
    return sorted(
        {*told}.symmetric_difference(there)
        | {name for name in there if name in told and _hash(weights / name) != told[name]}
    )


def _names(weights: Path) -> list[str]:
    files = (path for path in weights.rglob("*") if path.is_file() and path.name != SUMS)
    return sorted(path.relative_to(weights).as_posix() for path in files if not path.name.startswith("."))


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

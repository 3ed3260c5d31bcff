"""JSON written row by row; no file where there is no row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """A .jsonl file; returns how many rows it has."""
    return _write(path, rows, "", "", "\n")


def write_list(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """A .json file that is one list; returns how many rows it has."""
    return _write(path, rows, "[\n", "\n]", ",\n")


def _write(path: Path, rows: Iterable[Mapping[str, Any]], head: str, foot: str, between: str) -> int:
    count = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        for row in rows:
            file.write(between if count else head)
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False))
            count += 1
        file.write(f"{foot}\n" if count else "")
    if not count:
        path.unlink()
    return count

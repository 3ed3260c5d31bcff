"""Which format a file or a folder is of, and its groups."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from flowgrpo.sharing import hpd, imagereward, parquet, pickapic, raw, trl
from flowgrpo.sharing.told import Brought

_WHAT = (
    "expected a folder that export-ratings wrote, Pick-a-Pic's .parquet, HPDv2's .json, "
    "ImageRewardDB's .json or .parquet, or TRL's .jsonl with prompt, chosen and rejected"
)


def read(path: Path, images: Path | None = None) -> Iterator[Brought]:
    """The groups of a file, or of all files of a folder.

    Args:
        images: the folder that paths of images start from; else the file's own folder, or the one above it.

    Raises LookupError where nothing is there, ValueError for a row that does not fit.
    """
    if not path.exists():
        raise LookupError(f"there is no {path}: {_WHAT}")
    if path.is_dir() and (path / raw.VOTES).is_file() and (path / raw.IMAGES).is_file():
        yield from raw.read(path)
        return
    files = _files(path) if path.is_dir() else [path]
    if not files:
        raise LookupError(f"there are no ratings in {path}: {_WHAT}")
    for file in files:
        yield from _groups(file, [images] if images is not None else [file.parent, file.parent.parent])


def _files(folder: Path) -> list[Path]:
    found = (path for path in folder.iterdir() if path.suffix in (".parquet", ".json", ".jsonl"))
    return sorted(path for path in found if "_unpaired" not in path.name)


def _groups(file: Path, roots: list[Path]) -> Iterator[Brought]:
    if file.suffix == ".parquet":
        columns = parquet.columns_of(file)
        if set(pickapic.NEEDED) <= columns.keys():
            return pickapic.read(file)
        if {"image_path", "prompt_id", "rank"} <= columns.keys():
            return imagereward.read(file, roots)
        missing = sorted(set(pickapic.NEEDED) - columns.keys())
        raise ValueError(f"{file.name} has no column {', '.join(missing)}: {_WHAT}")
    if file.suffix == ".jsonl":
        return trl.read(file, roots)
    if file.suffix == ".json":
        return imagereward.read(file, roots) if _has_prompt_ids(file) else hpd.read(file, roots)
    raise ValueError(f"{file.name} is of no known format: {_WHAT}")


def _has_prompt_ids(file: Path) -> bool:
    """Whether the first row of a list has a `prompt_id`; a file that is none is refused by its reader."""
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return False
    return isinstance(rows, list) and bool(rows) and isinstance(rows[0], dict) and "prompt_id" in rows[0]

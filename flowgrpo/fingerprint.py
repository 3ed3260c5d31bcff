"""A short name for what a base's files hold, so that the same base is known elsewhere. No torch."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

READ_BYTES: Final = 1 << 20
"""At the beginning and at the end of a long file; a safetensors file has the names of its tensors first."""
PLACES: Final = 16
"""Further places of a long file that are looked at, evenly spread, of a sixteenth of that each."""
_SUFFIXES: Final = (".safetensors", ".json", ".txt", ".model")


def fingerprint(path: Path) -> str:
    """SHA-256, in hex, of the weights and configurations of a folder, or of one file.

    Files of up to 4 MB count whole. Of longer ones it is size, beginning, end and some places between, so
    that a base of 30 GB takes a moment; two bases that differ in a few weights alone may look the same.

    Raises OSError where a file cannot be read.
    """
    digest = hashlib.sha256()
    for file in _files(path):
        name = file.relative_to(path).as_posix() if path.is_dir() else ""
        digest.update(f"{name}\0{file.stat().st_size}\0".encode())
        _read_into(digest, file)
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.suffix in _SUFFIXES and file.is_file())


def _read_into(digest: hashlib._Hash, file: Path) -> None:
    size = file.stat().st_size
    with file.open("rb") as stream:
        if size <= 4 * READ_BYTES:
            digest.update(stream.read())
            return
        for place, length in _places(size):
            stream.seek(place)
            digest.update(stream.read(length))


def _places(size: int) -> list[tuple[int, int]]:
    """(offset, length) in bytes."""
    between = [(size * place // (PLACES + 1), READ_BYTES // PLACES) for place in range(1, PLACES + 1)]
    return [(0, READ_BYTES), *between, (size - READ_BYTES, READ_BYTES)]

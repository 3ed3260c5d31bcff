"""Images as files named by their content. The file stands, synced, before any row speaks of it."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from pathlib import Path

from storage.errors import NotSavedError
from storage.types import new_id

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


def path_of(home: Path, sha256: str) -> Path:
    """Where the blob of this hash lies, or would lie."""
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise ValueError(f"expected 64 hexadecimal digits, got {sha256[:80]!r}")
    return home / "blobs" / sha256[:2] / f"{sha256}.png"


def put_png(home: Path, png: bytes) -> str:
    """Stores a PNG and returns its sha256; storing it again is free.

    Raises:
        ValueError: the bytes are not one whole PNG.
        NotSavedError: the disk is full or cannot be written; nothing is left behind.
    """
    check_png(png)
    sha256 = hashlib.sha256(png).hexdigest()
    target = path_of(home, sha256)
    if target.exists() and target.stat().st_size == len(png):
        return sha256
    partial = home / "tmp" / f"{new_id()}.png"
    try:
        _write_synced(partial, png)
        target.parent.mkdir(exist_ok=True)
        partial.rename(target)
        _sync_folder(target.parent)
        _sync_folder(target.parent.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise NotSavedError(
            f"The image was not saved ({error.strerror}): free some space, then try again."
        ) from error
    return sha256


def check_png(png: bytes) -> None:
    """Raises ValueError unless the bytes are a signature, whole chunks with right checksums, and an end."""
    if not png.startswith(_SIGNATURE):
        raise ValueError("expected a PNG, got bytes without its signature")
    position, kinds = len(_SIGNATURE), []
    while position + 12 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, position)
        end = position + 12 + length
        if (
            end > len(png)
            or zlib.crc32(png[position + 4 : end - 4]) != struct.unpack_from(">I", png, end - 4)[0]
        ):
            break
        kinds.append(kind)
        position = end
    if position != len(png) or kinds[:1] != [b"IHDR"] or kinds[-1:] != [b"IEND"] or b"IDAT" not in kinds:
        raise ValueError(f"expected a whole PNG, got one that is cut off or damaged after {position} bytes")


def pixels_only(png: bytes) -> bytes:
    """The same image without texts, times and whatever else a PNG may carry beside its pixels.

    Args:
        png: a whole one, as `put_png` keeps it.
    """
    position, kept = len(_SIGNATURE), [_SIGNATURE]
    while position + 12 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, position)
        end = position + 12 + length
        if kind in _PIXEL_CHUNKS:
            kept.append(png[position:end])
        position = end
    return b"".join(kept)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

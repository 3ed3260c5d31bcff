"""Images as files named by their content. The file stands, synced, before any row speaks of it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from storage.disk import sync
from storage.errors import NotSavedError
from storage.types import new_id

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_YOUNG_SECONDS = 3600
"""A file that is younger is safe from sweeping for long enough (storage/sweeping.py)."""
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
    if _is_there(home, target, len(png)):
        return sha256
    partial = home / "tmp" / f"{new_id()}.png"
    try:
        _write_synced(partial, png)
        target.parent.mkdir(exist_ok=True)
        partial.rename(target)
        sync(target.parent)
        sync(target.parent.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise NotSavedError(
            f"The image was not saved ({error.strerror}): free some space, then try again."
        ) from error
    return sha256


def _is_there(home: Path, target: Path, size: int) -> bool:
    """Whether the blob lies there whole; it is young then, so that it stays until a row points to it."""
    with _lock(home, fcntl.LOCK_SH), contextlib.suppress(FileNotFoundError):
        seen = target.stat()
        if seen.st_size == size and time.time() - seen.st_mtime > _YOUNG_SECONDS:
            os.utime(target)
        return seen.st_size == size
    return False


@contextlib.contextmanager
def nobody_stores(home: Path) -> Iterator[None]:
    """Nobody finds that an image lies there already for as long as the block lasts."""
    with _lock(home, fcntl.LOCK_EX):
        yield


@contextlib.contextmanager
def _lock(home: Path, kind: int) -> Iterator[None]:
    fd = os.open(home / "locks" / "blobs.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, kind)
        yield
    finally:
        os.close(fd)


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


def text_of(png: bytes, keyword: str) -> str | None:
    """What a PNG says under a keyword, such as A1111's "parameters"; None where it says nothing."""
    wanted, position = keyword.encode() + b"\0", len(_SIGNATURE)
    while position + 12 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, position)
        data = png[position + 8 : position + 8 + length]
        if data.startswith(wanted) and kind in (b"iTXt", b"tEXt"):
            return _text(kind, data[len(wanted) :])
        position += 12 + length
    return None


def _text(kind: bytes, data: bytes) -> str:
    if kind == b"tEXt":
        return data.decode("latin-1")
    is_compressed, _, text = data[0], *data[2:].split(b"\0", 1)
    text = text.split(b"\0", 1)[1]
    return (zlib.decompress(text) if is_compressed else text).decode(errors="replace")


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())

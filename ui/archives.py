"""One .zip of an upload -> its files, by number, in a folder of ours; nothing that it says is believed."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from ui.forms import Refused

MAX_FILES: Final = 15_000
MAX_UNPACKED: Final = 8 * 2**30
"""Bytes of all files of an archive."""
MAX_RATIO: Final = 100
"""Bytes that one byte of the archive may unpack to; images and captions stay below 10."""
_SLACK = 2**20
"""Bytes that an archive of any size may unpack to."""
_MAX_DIRECTORY = MAX_FILES * 300
"""Bytes of the list of files at the archive's end, of which each becomes an object in memory."""
_CHUNK = 1 << 20
_END, _END64, _LOCATOR = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_TAIL = 22 + 0xFFFF + 20 + 56
"""Bytes in which the end of the list is told: the record, a remark of any length, and those of ZIP64."""
_BROKEN = (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, OSError, zlib.error)
"""What zipfile raises for archives that are not what they say."""


def unpacked(files: Sequence[tuple[str, Path]], folder: Path) -> list[tuple[str, Path]]:
    """The files of an upload; those of an archive, where it is one .zip, written into `folder` by number.

    Raises:
        Refused: a damaged, encrypted or monstrous archive.
    """
    if len(files) != 1 or not files[0][0].lower().endswith(".zip"):
        return list(files)
    name, path = files[0]
    try:
        with path.open("rb") as opened:
            _check_directory(opened)
        with zipfile.ZipFile(path) as archive:
            return list(_members(archive, folder, MAX_RATIO * path.stat().st_size + _SLACK))
    except (*_BROKEN, UnicodeDecodeError, struct.error) as error:
        raise Refused(f"The archive {name} cannot be unpacked ({error}): make it again.") from error
    except RuntimeError as error:  # what zipfile raises for an encrypted member
        raise Refused(f"The archive {name} is locked with a password: make it without one.") from error


def _check_directory(file: BinaryIO) -> None:
    """Refused for a list of files that would fill the memory before it could be counted."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _TAIL))
    tail = file.read(_TAIL)
    end = tail.rfind(_END)
    if end < 0 or len(tail) < end + 22:
        raise zipfile.BadZipFile("it has no list of files")
    listed, length = struct.unpack_from("<HL", tail, end + 10)
    if end >= 76 and tail[end - 20 : end - 16] == _LOCATOR and tail[end - 76 : end - 72] == _END64:
        listed, length = struct.unpack_from("<QQ", tail, end - 76 + 32)
    if listed > MAX_FILES:
        raise _too_many(listed)
    if length > _MAX_DIRECTORY:
        raise Refused("The archive's list of files is longer than that of any folder of images: split it.")


def _too_many(count: int) -> Refused:
    return Refused(f"The archive has {count:,} files, and {MAX_FILES:,} are taken: split it.")


def _members(archive: zipfile.ZipFile, folder: Path, most: int) -> Iterator[tuple[str, Path]]:
    """The declared sizes are not believed: bytes are counted as they come."""
    total = 0
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if len(infos) > MAX_FILES:
        raise _too_many(len(infos))
    for number, info in enumerate(infos):
        path = folder / f"{number:06d}"
        with archive.open(info) as source, path.open("xb") as target:
            while chunk := source.read(_CHUNK):
                total += len(chunk)
                _check_total(total, most)
                target.write(chunk)
        yield info.filename, path


def _check_total(total: int, most: int) -> None:
    if total > MAX_UNPACKED:
        raise Refused(f"Unpacked, the archive has more than {MAX_UNPACKED // 2**30} GB: split it.")
    if total > most:
        raise Refused(
            f"Unpacked, the archive has more than {MAX_RATIO} times its size, which no folder of images has: "
            "make it again."
        )

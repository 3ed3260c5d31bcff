"""What an archive of a project may look like. Nothing is unpacked before all of this holds.

An archive comes from elsewhere, so none of its words is believed: names become places only when each part of
them is plain, sizes are counted while they come, and a file is what its SHA-256 says, or nothing.
"""

from __future__ import annotations

import json
import re
import stat
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

FORMAT = 1
"""Of the archive; a reader knows this one and older ones."""
MANIFEST = "MANIFEST.json"
DATABASE = "app.db"
TOPS = ("blobs", "runs", "imports", "datasets", "heads", "evaluations")
"""Folders of the data folder that an archive may have, beside the database and notices.json."""
_FILES = (DATABASE, "notices.json")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}|[\w \-.+()\[\]&,'!]{1,200}")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_END, _END64, _ENTRY = b"PK\x05\x06", b"PK\x06\x06", b"PK\x01\x02"
_ENTRY_SIZE = 46
_LONGEST_COMMENT = 65_535


class ArchiveError(ValueError):
    """An archive that is not taken; the sentence says why, and what to do. Nothing was put in place."""


@dataclass(frozen=True)
class Limits:
    """What an archive may have at most.

    Attributes:
        entries: files.
        ratio: unpacked to packed, of each file and of all together.
        total: bytes unpacked.
        listing: bytes of the manifest, and of the zip's own list of files.
    """

    entries: int = 300_000
    ratio: int = 100
    total: int = 2 * 2**40
    listing: int = 96 * 2**20


@dataclass(frozen=True)
class Listed:
    """A file as the manifest has it."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What an archive says of itself."""

    schema: str
    files: Mapping[str, Listed]
    facts: Mapping[str, Any]


def check_name(name: str) -> None:
    """Raises ArchiveError for a name that is no plain place in a data folder."""
    parts = name.split("/")
    is_known = name in _FILES or (parts[0] in TOPS and len(parts) > 1)
    if not is_known or not all(_is_plain(part) for part in parts):
        raise ArchiveError(
            f"the archive has a file {name[:200]!r}, which has no place in a data folder: it was not made by "
            "this program, or was changed"
        )


def _is_plain(part: str) -> bool:
    is_odd = part in ("", ".", "..") or part[-1] in ". " or part[0] == " " or _RESERVED.fullmatch(part)
    return not is_odd and _PART.fullmatch(part) is not None


def check_list_of_files(file: BinaryIO, limits: Limits) -> None:
    """Counts the entries of a zip in a walk over its list, before anything keeps them all in memory."""
    start, size = _place_of_list(file)
    if size > limits.listing:
        raise ArchiveError(f"the archive's list of files has {size:,} bytes: {limits.listing:,} are allowed")
    file.seek(start)
    data, position, count = file.read(size), 0, 0
    while data[position : position + 4] == _ENTRY and position + _ENTRY_SIZE <= len(data):
        name, extra, comment = struct.unpack_from("<HHH", data, position + 28)
        position += _ENTRY_SIZE + name + extra + comment
        count += 1
        if count > limits.entries:
            raise ArchiveError(f"the archive has more than {limits.entries:,} files: that is no project")
    if not count:
        raise ArchiveError("the archive is empty, or no zip at all: choose another file")


def _place_of_list(file: BinaryIO) -> tuple[int, int]:
    """(offset, size) of the zip's central directory."""
    file.seek(0, 2)
    length = file.tell()
    file.seek(max(0, length - _LONGEST_COMMENT - 22 - 76))
    start, tail = file.tell(), file.read()
    at = tail.rfind(_END)
    if at < 0 or at + 22 > len(tail):
        raise ArchiveError("the archive is cut short, or no zip at all: copy it again")
    size, offset = struct.unpack_from("<LL", tail, at + 12)
    at64 = tail.rfind(_END64, 0, at)
    if 0xFFFFFFFF in (size, offset) and at64 >= 0:
        size, offset = struct.unpack_from("<QQ", tail, at64 + 40)
        at = at64
    if offset + size > start + at:
        raise ArchiveError("the archive is cut short: copy it again")
    return start + at - size, size


def check_entries(entries: list[zipfile.ZipInfo], limits: Limits) -> None:
    """Raises ArchiveError for names, kinds and sizes that no archive of ours has."""
    seen: set[str] = set()
    for entry in entries:
        if entry.filename != MANIFEST:
            check_name(entry.filename)
        if (key := entry.filename.casefold()) in seen:
            raise ArchiveError(f"the archive has {entry.filename!r} twice, if capitals do not count")
        seen.add(key)
        _check_kind(entry)
        _check_ratio(entry.file_size, entry.compress_size, entry.filename, limits)
    total = sum(entry.file_size for entry in entries)
    _check_ratio(total, sum(entry.compress_size for entry in entries), "all together", limits)
    if total > limits.total:
        raise ArchiveError(f"the archive unpacks to {total / 1e9:,.1f} GB: there is no room for that")


def _check_kind(entry: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG) or entry.is_dir():
        raise ArchiveError(
            f"the archive has {entry.filename!r}, which is a link or no file: nothing was unpacked"
        )
    if entry.flag_bits & 1:
        raise ArchiveError("the archive is locked with a password: make it without one")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArchiveError(f"{entry.filename!r} is packed in a way that this program does not use")


def _check_ratio(size: int, packed: int, name: str, limits: Limits) -> None:
    if size > limits.ratio * max(1, packed) and size > 2**16:
        raise ArchiveError(
            f"{name!r} unpacks to {size:,} bytes from {packed:,}: that is a trap, and nothing was unpacked"
        )


def read_manifest(archive: zipfile.ZipFile, limits: Limits) -> Manifest:
    """The manifest, when it lists exactly what the zip has."""
    try:
        info = archive.getinfo(MANIFEST)
    except KeyError as error:
        raise ArchiveError(
            f"the archive has no {MANIFEST}: it was not made by `python app.py archive`"
        ) from error
    if info.file_size > limits.listing:
        raise ArchiveError(f"the archive's {MANIFEST} is too long: {info.file_size:,} bytes")
    with archive.open(info) as file:
        text = file.read(limits.listing + 1)
    manifest = _parsed(text)
    _check_same(set(manifest.files), {entry.filename for entry in archive.infolist()} - {MANIFEST})
    return manifest


def _parsed(text: bytes) -> Manifest:
    try:
        said = json.loads(text)
        number = int(said["format"])
        files: dict[str, Listed] = {}
        if number <= FORMAT:
            files = {str(name): _listed(one) for name, one in said["files"].items()}
        manifest = Manifest(str(said["schema"]), files, said)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ArchiveError(f"the archive's {MANIFEST} cannot be read: make the archive again") from error
    if number > FORMAT:
        raise ArchiveError(
            f"the archive has format {number}, this program knows up to {FORMAT}: install a newer version"
        )
    return manifest


def _listed(one: Mapping[str, Any]) -> Listed:
    return Listed(int(one["size"]), str(one["sha256"]))


def _check_same(listed: set[str], present: set[str]) -> None:
    if odd := sorted(listed ^ present):
        raise ArchiveError(
            f"the archive and its {MANIFEST} do not have the same files, {odd[0][:200]!r} for one: "
            "it was changed, or is not whole"
        )
    if DATABASE not in listed:
        raise ArchiveError("the archive has no database: it was not made by `python app.py archive`")


def is_taken(home: Path) -> bool:
    """Whether something is at this place that an archive must not be put over."""
    return home.exists() and (not home.is_dir() or any(home.iterdir()))

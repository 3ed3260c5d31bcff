"""A project out of an archive, into a folder of its own: all of it, checked, or nothing."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from storage import migrate
from storage.archive import without_secrets
from storage.archive_rows import check_rows
from storage.archive_rules import (
    DATABASE,
    ArchiveError,
    Limits,
    Listed,
    Manifest,
    check_entries,
    check_list_of_files,
    is_taken,
    read_manifest,
)
from storage.copies import Content, opened, verified
from storage.disk import sync
from storage.errors import DamagedError, NotSavedError
from storage.failpoints import failpoint
from storage.partials import partial_of
from storage.quotas import RESERVE_BYTES
from storage.restore import missing_files
from storage.sqlite_only import refuse_server

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Unarchived:
    """What was put in place.

    Attributes:
        missing: files that rows point to and that were not in the archive.
    """

    home: Path
    content: Content
    files: int
    missing: list[str]


def unarchive(source: Path, home: Path, limits: Limits | None = None) -> Unarchived:
    """Makes the data folder `home`, which must be empty or not there, of an archive.

    Raises:
        ArchiveError: the archive, or something in it, is not as this program makes it. Nothing is left.
        NotSavedError: the disk is full. Nothing is left.
        ValueError: there is something in the folder already.
    """
    refuse_server("unarchive")
    home = home.resolve()
    if is_taken(home):
        raise ValueError(f"there is something in {home} already: name a folder that is empty or not there")
    home.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial_of(home, is_folder=True) as partial:
            content, manifest = _unpack(source, partial, limits or _limits(home.parent))
            missing = list(missing_files(partial))
            os.sync()
            failpoint("unarchive.unpacked")
            partial.rename(home)
            sync(home.parent)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error) as error:
        raise ArchiveError(f"the archive {source.name} is damaged ({error}): copy it again") from error
    except DamagedError as error:
        raise ArchiveError(f"the database of the archive is not taken: {error}") from error
    return Unarchived(home, content, len(manifest.files), missing)


def _limits(folder: Path) -> Limits:
    """As always, and no more than the disk has room for."""
    room = max(0, shutil.disk_usage(folder).free - RESERVE_BYTES)
    return Limits(total=min(Limits().total, room))


def _unpack(source: Path, partial: Path, limits: Limits) -> tuple[Content, Manifest]:
    if not source.is_file():
        raise ArchiveError(f"there is no file {source}: name an archive that there is")
    with source.open("rb") as file:
        check_list_of_files(file, limits)
        file.seek(0)
        with zipfile.ZipFile(file) as zipped:
            check_entries(zipped.infolist(), limits)
            manifest = read_manifest(zipped, limits)
            for name, listed in manifest.files.items():
                _unpack_one(zipped, name, listed, partial / name)
    database = partial / DATABASE
    _check_parts(database)
    content = verified(database)
    if content.schema > migrate.head_of():
        raise ArchiveError(
            f"the archive has schema {content.schema}, this program knows up to {migrate.head_of()}: "
            "install the newer version that wrote it"
        )
    check_rows(database)
    without_secrets(database)
    return content, manifest


def _unpack_one(zipped: zipfile.ZipFile, name: str, listed: Listed, path: Path) -> None:
    """Bytes are counted as they come; the file is what the manifest says, or the archive is refused."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    try:
        with zipped.open(name) as source, path.open("xb") as target:
            while size <= listed.size and (chunk := source.read(_CHUNK)):
                size += len(chunk)
                digest.update(chunk)
                target.write(chunk)
    except OSError as error:
        raise NotSavedError(f"Not unpacked ({error}): free some space, then try again.") from error
    if (size, digest.hexdigest()) != (listed.size, listed.sha256):
        raise ArchiveError(f"{name!r} is not what the manifest says: the archive was changed, or is damaged")


def _check_parts(database: Path) -> None:
    """A database from elsewhere has tables and indices: what else there is would run when it is read."""
    with opened(database) as connection:
        for kind, name, sql in connection.execute("SELECT type, name, sql FROM sqlite_master"):
            if kind not in ("table", "index") or "VIRTUAL" in str(sql).upper().split("(")[0]:
                raise ArchiveError(f"the database of the archive has a {kind} {name[:80]!r}: ours have none")

"""A whole project as one file: its rows, the files that they point to, and a manifest with every hash.

Passwords, sessions and tokens stay behind, and so do bases, which are not the project's own.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from storage import blobs
from storage.archive_rules import DATABASE, FORMAT, MANIFEST, ArchiveError, Limits, check_name
from storage.backup import snapshot
from storage.copies import verified
from storage.disk import put_in_place
from storage.engine import Database
from storage.errors import NotSavedError
from storage.failpoints import failpoint
from storage.partials import partial_of
from storage.sqlite_only import refuse_server
from storage.types import new_id, utc_now

SECRETS = ("session", "api_token", "login_link", "login_throttle")
"""Tables that no archive has rows of."""
_OF_THIS_MACHINE = ("worker_beat", "app_meta")
_OPEN_RUNS = "('queued', 'starting', 'running', 'stopping', 'lost')"
_OF_A_RUN = ("config.yaml", "config.json", "metrics.jsonl")
"""Files of its folder; the first releases wrote config.json."""
_CHUNK = 1 << 20
_PACKED = (".db", ".json", ".jsonl", ".yaml", ".txt", ".csv", ".md")
"""What gets smaller; images and weights do not."""


@dataclass(frozen=True)
class Archived:
    """What was written.

    Attributes:
        missing: files that rows point to and that were not there.
    """

    path: Path
    files: int
    size: int
    ratings: int
    images: int
    missing: list[str]


def archive(db: Database, target: Path, *, with_images: bool = True) -> Archived:
    """Writes the whole project to `target`, which must not exist; people may go on meanwhile.

    Raises:
        ValueError: there is such a file already, or the database is a server's.
        NotSavedError: the disk is full; nothing is left behind.
    """
    refuse_server("archive", db)
    target = target.resolve()
    if target.exists():
        raise ValueError(f"there is a file {target} already: choose another name")
    copy = db.home / "tmp" / f"{new_id()}.db"
    try:
        snapshot(db, copy)
        without_secrets(copy)
        with partial_of(target) as partial:
            done = _write(db.home, copy, partial, target, with_images)
            failpoint("archive.written")
            put_in_place(partial, target)
    except (OSError, sqlite3.Error) as error:
        raise NotSavedError(f"No archive was made ({error}): free some space, then try again.") from error
    finally:
        copy.unlink(missing_ok=True)
    return done


def without_secrets(database: Path) -> None:
    """Empties a copy of all that lets somebody in, to the last byte, and of what holds on this machine only.

    What was at work is put back: a run is stopped and can be resumed, a group or job waits again.
    """
    connection = sqlite3.connect(database, isolation_level=None)
    try:
        connection.execute("PRAGMA secure_delete=ON")
        tables = {
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        for table in tables.intersection((*SECRETS, *_OF_THIS_MACHINE)):
            connection.execute(f"DELETE FROM {table}")
        if "password_hash" in {row[1] for row in connection.execute("PRAGMA table_info(user)")}:
            connection.execute("UPDATE user SET password_hash = NULL")
        connection.execute(
            f"UPDATE run SET state = 'stopped', reason = ? WHERE state IN {_OPEN_RUNS}",
            ("It waited or went on when the project was archived: resume it.",),
        )
        for table in tables.intersection(("image_group", "job")):
            connection.execute(
                f"UPDATE {table} SET state = 'queued', worker_id = NULL, phase = NULL, started_at = NULL "
                "WHERE state = 'running'"
            )
        connection.execute("VACUUM")
    finally:
        connection.close()


def _write(home: Path, copy: Path, partial: Path, target: Path, with_images: bool) -> Archived:
    content, files, missing = verified(copy), {}, []
    with zipfile.ZipFile(partial, "w", allowZip64=True) as zipped:
        files[DATABASE] = _add(zipped, DATABASE, copy)
        for name in wanted_files(home, copy, with_images):
            try:
                files[name] = _add(zipped, name, home / name)
            except FileNotFoundError:
                missing.append(name)
        if len(files) >= Limits().entries:
            raise ArchiveError(
                f"the project has {len(files):,} files, an archive takes {Limits().entries:,}: "
                "archive it with --without-images and copy the folder blobs beside it"
            )
        facts = {
            "format": FORMAT, "schema": content.schema, "made_at": utc_now().isoformat(),
            "with_images": with_images, "ratings": content.ratings, "images": content.images, "files": files,
        }  # fmt: skip
        with zipped.open(_entry(MANIFEST), "w") as file:
            file.write(json.dumps(facts, indent=0, sort_keys=True).encode())
    size = partial.stat().st_size
    return Archived(target, len(files), size, content.ratings, content.images, missing)


def _entry(name: str) -> zipfile.ZipInfo:
    """Without a time and an owner: equal projects make equal entries."""
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o100600 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED if name.endswith(_PACKED) else zipfile.ZIP_STORED
    return entry


def _add(zipped: zipfile.ZipFile, name: str, path: Path) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as source, zipped.open(_entry(name), "w", force_zip64=True) as file:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            file.write(chunk)
    return {"size": size, "sha256": digest.hexdigest()}


def wanted_files(home: Path, database: Path, with_images: bool) -> Iterator[str]:
    """Names, relative to the data folder, of the files that the rows of a copy point to, each once."""
    connection = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        tables = {
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        named = dict.fromkeys(_named(home, connection, tables, with_images))
    finally:
        connection.close()
    if (home / "notices.json").is_file():
        named["notices.json"] = None
    for name in named:
        check_name(name)
        yield name


def _named(home: Path, connection: sqlite3.Connection, tables: set[str], with_images: bool) -> Iterator[str]:
    if with_images:
        for (sha256,) in connection.execute("SELECT DISTINCT sha256 FROM image ORDER BY sha256"):
            yield blobs.path_of(home, sha256).relative_to(home).as_posix()
    folders = [
        "SELECT path FROM checkpoint WHERE path IS NOT NULL AND state = 'committed' ORDER BY path",
        "SELECT 'evaluations/' || id FROM job ORDER BY id" if "job" in tables else "",
        "SELECT path FROM dataset ORDER BY path" if "dataset" in tables else "",
    ]
    for query in filter(None, folders):
        for (folder,) in connection.execute(query):
            yield from _inside(home, str(folder), is_needed="checkpoint" in query or "dataset" in query)
    for (run_id,) in connection.execute("SELECT id FROM run ORDER BY id"):
        files = (f"runs/{run_id}/{name}" for name in _OF_A_RUN)
        yield from (name for name in files if (home / name).is_file())
    if "preference_fit" in tables:
        for (version,) in connection.execute("SELECT version FROM preference_fit WHERE kind = 'head'"):
            yield f"heads/{version}.safetensors"


def _inside(home: Path, folder: str, *, is_needed: bool) -> Iterator[str]:
    """The files below a folder; its own name, which is missing then, where a row needs it and it is gone."""
    if PurePosixPath(folder).is_absolute():
        return  # a dataset that was only pointed at stays where it is
    found = [path for path in sorted((home / folder).rglob("*")) if path.is_file() and not path.is_symlink()]
    if not found and is_needed:
        yield folder
    yield from (path.relative_to(home).as_posix() for path in found)

"""The frame around a checkpoint's files: complete and intact, or not there. No torch, so that anybody can
check one.

A folder is filled under a temporary name; MANIFEST.json, written last, holds size and SHA-256 of every file
and of itself; then the folder is renamed. What carries its final name and verifies is what was written
(reliability.md 3.2).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flowgrpo.failpoints import failpoint

MANIFEST = "MANIFEST.json"
TEMPORARY = ".tmp-"
CHUNK = 1 << 20


class DamagedCheckpointError(ValueError):
    """A checkpoint that is not what was written; the message says which file and how."""


@contextmanager
def committing(target: Path, facts: Mapping[str, Any]) -> Iterator[Path]:
    """Gives a temporary folder to fill; on leaving, commits it as `target` with `facts` in its manifest.

    An error inside (a full disk, a tensor that is not finite) removes the temporary folder and changes
    nothing else.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f"{TEMPORARY}{target.name}-{uuid.uuid4().hex[:8]}"
    failpoint("ckpt.folder")
    temporary.mkdir()
    try:
        failpoint("ckpt.files")
        yield temporary
        _write_manifest(temporary, facts)
        if target.exists():  # damaged: a whole one was not written again
            failpoint("ckpt.replace")
            shutil.rmtree(target)
        failpoint("ckpt.rename")
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    failpoint("ckpt.sync_parent")
    _sync(target.parent)
    failpoint("ckpt.done")


def verify(folder: Path) -> dict[str, Any]:
    """The manifest of an intact checkpoint folder; raises DamagedCheckpointError for any other."""
    manifest = _read_manifest(folder)
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise DamagedCheckpointError(f"{folder.name}: {name} is missing; use an older checkpoint")
        if path.stat().st_size != expected["size"]:
            raise DamagedCheckpointError(
                f"{folder.name}: {name} has {path.stat().st_size} bytes instead of {expected['size']}; "
                "use an older checkpoint"
            )
        if sha256_of(path) != expected["sha256"]:
            raise DamagedCheckpointError(
                f"{folder.name}: {name} is not what was written; use an older checkpoint"
            )
    return manifest


def newest_valid(checkpoints: Path) -> tuple[Path | None, list[str]]:
    """The newest intact checkpoint of a folder of them, and a sentence for each newer one that is damaged."""
    warnings: list[str] = []
    folders = checkpoints.iterdir() if checkpoints.is_dir() else []
    for folder in sorted((f for f in folders if f.is_dir() and f.name.isdigit()), key=lambda f: -int(f.name)):
        try:
            name = verify(folder).get("name", folder.name)
            if name != folder.name:
                raise DamagedCheckpointError(
                    f"{folder.name}: it holds the files of {name}; use an older checkpoint"
                )
        except DamagedCheckpointError as error:
            warnings.append(str(error))
        else:
            return folder, warnings
    return None, warnings


def remove(folder: Path) -> None:
    """Removes a checkpoint folder: at once, or not at all, as far as anybody can see who looks for one."""
    aside = folder.parent / f"{TEMPORARY}{folder.name}-{uuid.uuid4().hex[:8]}"
    folder.rename(aside)
    _sync(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)


def remove_leftovers(checkpoints: Path) -> list[str]:
    """Removes what an attempt left under temporary names, and returns the names; only while nobody is
    writing.
    """
    leftovers = sorted(checkpoints.glob(f"{TEMPORARY}*"))
    for folder in leftovers:
        shutil.rmtree(folder, ignore_errors=True)
    return [folder.name for folder in leftovers]


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    files: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            failpoint(f"ckpt.sync.{name}")
            _sync(path)
            files[name] = {"size": path.stat().st_size, "sha256": sha256_of(path)}
    for inner in (path for path in folder.rglob("*") if path.is_dir()):
        failpoint(f"ckpt.sync.{inner.relative_to(folder).as_posix()}")
        _sync(inner)
    body = {**facts, "files": files}
    failpoint("ckpt.manifest")
    (folder / MANIFEST).write_text(_canonical({**body, "sha256": _digest(body)}))
    failpoint("ckpt.sync_manifest")
    _sync(folder / MANIFEST)
    failpoint("ckpt.sync_folder")
    _sync(folder)


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        text = (folder / MANIFEST).read_text()
        manifest: dict[str, Any] = json.loads(text)
        body = {key: value for key, value in manifest.items() if key != "sha256"}
        intact = text == _canonical(manifest) and manifest["sha256"] == _digest(body)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise DamagedCheckpointError(
            f"{folder.name}: {MANIFEST} cannot be read; use an older checkpoint"
        ) from error
    if not intact:
        raise DamagedCheckpointError(
            f"{folder.name}: {MANIFEST} is not what was written; use an older checkpoint"
        )
    return manifest


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False)


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(body).encode()).hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

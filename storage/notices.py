"""Licence notices of rewards that somebody has accepted: one small JSON file of the data folder.

What was accepted is a text, not a name: the file keeps its SHA-256, and a notice that says something else
waits to be accepted again.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storage.errors import NotSavedError
from storage.locks import FileLock
from storage.types import new_id, utc_now

_log = logging.getLogger(__name__)


def file_of(home: Path) -> Path:
    """Name to `{"when", "sha256"}`, as JSON."""
    return home / "notices.json"


def accepted_notices(home: Path) -> dict[str, str]:
    """Name of each reward to the SHA-256 of the notice that was accepted.

    A file that cannot be read accepts nothing, which the log says: rewards then wait to be accepted again.
    """
    try:
        return {name: str(one["sha256"]) for name, one in _read(home).items()}
    except (OSError, ValueError, TypeError, KeyError) as error:
        _log.warning("no notice counts as accepted: %s cannot be read (%s)", file_of(home), error)
        return {}


def is_accepted(card: Mapping[str, Any], accepted: Mapping[str, str]) -> bool:
    """Whether a reward's card has no notice, or one that was accepted as it stands there."""
    name, sha256 = str(card.get("name")).partition(":")[0], card.get("notice_sha256")
    return not card.get("notice") or (bool(sha256) and accepted.get(name) == sha256)


def accept_notice(home: Path, name: str, sha256: str) -> None:
    """Notes that somebody accepted the notice of this SHA-256.

    Raises:
        ValueError: That is no SHA-256.
        NotSavedError: The disk is full or cannot be written; what was accepted before still is.
    """
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise ValueError(f"expected the SHA-256 of a notice, 64 hexadecimal digits, got {sha256[:80]!r}")
    lock = FileLock(home / "locks" / "notices.lock")
    try:
        lock.acquire()
        _write(home, _kept(home) | {name: {"when": utc_now().isoformat(), "sha256": sha256}})
    except OSError as error:
        raise NotSavedError(f"Not saved ({error.strerror}): free some space, then try again.") from error
    finally:
        lock.release()


def _kept(home: Path) -> dict[str, Any]:
    """What a new line is added to; nothing where the file is damaged, as it accepts nothing then."""
    return _read(home) if accepted_notices(home) else {}


def _read(home: Path) -> dict[str, Any]:
    path = file_of(home)
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if not isinstance(read, dict):
        raise ValueError("it is no JSON object")
    return read


def _write(home: Path, accepted: Mapping[str, Any]) -> None:
    """Under a temporary name first: whoever reads finds the file before or after, never half of it."""
    partial = home / "tmp" / f"{new_id()}.json"
    try:
        with partial.open("x", encoding="utf-8") as file:
            json.dump(accepted, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(file_of(home))
    finally:
        partial.unlink(missing_ok=True)

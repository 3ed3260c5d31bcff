"""Why the last backup failed, kept where every process of the data folder can read it.

The disk may be full just then. So the note has its room from the first backup on, and is written over in
place, which takes none.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from storage.types import utc_now

_SIZE = 4096
"""Bytes of the note, whatever it says."""
_LONGEST = 500
"""Characters of a reason; six bytes each at most."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trouble:
    """A backup that failed, and none succeeded since.

    Attributes:
        at: when it was tried last.
        why: a sentence.
    """

    at: datetime
    why: str


def note(home: Path, why: str) -> None:
    """The last backup failed, and why; or it did not, where `why` is empty. Never raises OSError."""
    said = {"at": utc_now().isoformat(), "why": why[:_LONGEST]} if why else {}
    try:
        fd = os.open(_path(home), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(fd, json.dumps(said).encode().ljust(_SIZE), 0)
        finally:
            os.close(fd)
    except OSError as error:
        _log.warning("that a backup failed, or does not any more, could not be noted: %s", error)


def trouble_of(home: Path) -> Trouble | None:
    """Why the last backup of a data folder failed; None where it did not, or where nobody made one."""
    try:
        said = json.loads(_path(home).read_bytes())
        return Trouble(datetime.fromisoformat(said["at"]), said["why"]) if said else None
    except (OSError, ValueError):  # there is none, or it is being written
        return None


def _path(home: Path) -> Path:
    return home / "locks" / "backup.note"

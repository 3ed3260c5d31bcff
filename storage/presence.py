"""Who has the data folder open: shared by all who use it, alone for who exchanges its database."""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_WAIT_SECONDS = 1.0
"""An exchange of the database takes longer than that, a look whether anybody is there does not."""
_POLL_SECONDS = 0.01


class Presence:
    """Says that this process has the folder open, until it leaves or dies.

    Raises:
        OSError: the database is being exchanged.
    """

    def __init__(self, home: Path) -> None:
        fd = _take(_path(home), fcntl.LOCK_SH)
        if fd is None:
            raise OSError("a backup is being restored into it: wait until that is done, then start again")
        self._leave = weakref.finalize(self, os.close, fd)

    def leave(self) -> None:
        """The folder may be exchanged as far as this one is concerned. May be called again."""
        self._leave()


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Nobody else has the folder open, and nobody can open it for as long as the block lasts.

    Raises:
        OSError: somebody has it open.
    """
    fd = _take(_path(home), fcntl.LOCK_EX)
    if fd is None:
        raise OSError(
            f"the data folder {home} is open in another process (the studio, its engine, or a run): "
            "end it first, then try again"
        )
    try:
        yield
    finally:
        os.close(fd)


def _path(home: Path) -> Path:
    return home / "locks" / "open.lock"


def _take(path: Path, kind: int) -> int | None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    until = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() >= until:
                os.close(fd)
                return None
            time.sleep(_POLL_SECONDS)

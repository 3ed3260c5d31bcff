"""What to do when the database is busy or the disk is full: never end a training for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from storage.errors import UNAVAILABLE

T = TypeVar("T")
_log = logging.getLogger(__name__)


def attempt_write(what: str, action: Callable[[], T]) -> T | None:
    """Tries once; None, with a line in the log, when the database cannot be used now."""
    try:
        return action()
    except UNAVAILABLE as error:
        _log.warning("%s: not written now (%s)", what, error)
        return None


def insist(what: str, action: Callable[[], T], *, seconds: float = 300.0, pause_seconds: float = 0.5) -> T:
    """Tries again until it works, for at most `seconds`; then the last error is raised."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return action()
        except UNAVAILABLE as error:
            if time.monotonic() > deadline:
                raise
            _log.warning("%s: will be tried again (%s)", what, error)
            time.sleep(pause_seconds)

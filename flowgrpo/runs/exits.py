"""Exit codes of a trainer and the sentence that each means to a person (reliability.md 2.4)."""

from __future__ import annotations

import errno
import signal
from typing import Final

from storage.models import RunState
from storage.run_wishes import PAUSED_EXIT

DONE: Final = 0
BAD_CONFIG: Final = 64
SCHEMA_MISMATCH: Final = 65
NO_DEVICE: Final = 69
DISK_FULL: Final = 74
STOPPED: Final = 75
NOT_FINITE: Final = 76
OUT_OF_MEMORY: Final = 77
REWARDS_FAILED: Final = 78
ALARM: Final = 79
PAUSED: Final = PAUSED_EXIT

_SENTENCES: Final[dict[int, str]] = {
    DONE: "The run is complete.",
    BAD_CONFIG: "The run's settings cannot be used.",
    SCHEMA_MISMATCH: "The database belongs to another version of this program.",
    NO_DEVICE: "The device that the run needs is not there.",
    DISK_FULL: "The disk is full: free some space, then resume the run.",
    STOPPED: "The run stopped at a safe point and can be resumed.",
    NOT_FINITE: "Updates were not finite again and again, so the run ended before it damaged the adapter.",
    OUT_OF_MEMORY: "The device ran out of memory: lower the micro-batch or the image size, then resume.",
    REWARDS_FAILED: "The rewards could not score the images.",
    ALARM: "An alarm paused the run: look at its samples, then decide.",
    PAUSED: "The run paused at a safe point, as somebody asked, and can be resumed.",
}

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_full_disk(error: OSError) -> bool:
    """Whether freeing some space, or a larger quota, is what helps."""
    return error.errno in _NO_ROOM


class EndedError(Exception):
    """The trainer ends early, for a reason that a person should read."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def sentence(code: int) -> str:
    """What an exit code means; negative codes are signals, as `subprocess` reports them."""
    if code in _SENTENCES:
        return _SENTENCES[code]
    if code < 0:
        known = {number.value: number.name for number in signal.Signals}
        name = known.get(-code, f"signal {-code}")
        likely = ", likely out of memory" if -code == signal.SIGKILL else ""
        return f"The trainer was killed by {name}{likely}."
    return f"The trainer ended with exit code {code}."


def state_after(code: int, *, stop_requested: bool) -> RunState:
    """The run state that follows from an exit code.

    A trainer that was asked to stop is stopped however it ended, save that finished work stays finished.
    """
    if code == DONE:
        return "completed"
    if code == STOPPED or stop_requested:
        return "stopped"
    if code in (DISK_FULL, ALARM, PAUSED):
        return "paused"
    return "failed"

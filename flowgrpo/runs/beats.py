"""Signs of life of a trainer: what it does, how long it takes, and where it may be stopped."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

from flowgrpo.rewards.stack import RewardStack
from flowgrpo.runs import exits
from flowgrpo.runs.device import Turns
from flowgrpo.runs.patience import attempt_write
from flowgrpo.runs.position import Position
from storage import run_wishes, runs
from storage.engine import Database
from storage.models import Run
from storage.run_wishes import Wish

BEAT_SECONDS = 1.0
STOP_SECONDS = 10.0
"""From the request to stop until rewards are not waited for; the shim kills the trainer after 60."""
_LOOK_SECONDS = 0.5
_log = logging.getLogger(__name__)


class StopRequestedError(Exception):
    """Raised at a point where nothing is half done."""


class PauseRequestedError(StopRequestedError):
    """The run ends as for a stop, and rests as paused."""


class Beats:
    """Writes the beat of one attempt, gives way on the device and raises where the run should stop."""

    def __init__(
        self,
        db: Database,
        run: Run,
        position: Position,
        num_updates: int,
        turns: Turns,
        stop: threading.Event,
    ) -> None:
        self.db, self.run, self.position, self.num_updates = db, run, position, num_updates
        self.turns, self.stop = turns, stop
        self._said_at = 0.0
        self._seconds_per_update: float | None = None

    def tick(self, phase: str, *, may_stop: bool = True) -> None:
        """After each network call: beats, gives way on the device, and stops when that is safe.

        Raises:
            StopRequestedError, GaveUpError: the run should end here.
        """
        if may_stop and self.stop.is_set():
            raise StopRequestedError
        self.say(phase)
        self.turns.give_way(may_give_up=may_stop)

    def asked(self) -> Mapping[Wish, datetime]:
        """What people ask of the run and is not done yet; nothing while the database cannot be read."""
        return attempt_write("wishes", lambda: run_wishes.wishes_of(self.db, self.run.id)) or {}

    def pause_if_asked(self) -> None:
        """For long waits in which nothing is half done. Raises PauseRequestedError."""
        if "pause" in self.asked():
            raise PauseRequestedError

    def time(self, seconds: float) -> None:
        """Takes in how long an update took."""
        before = self._seconds_per_update
        self._seconds_per_update = seconds if before is None else 0.7 * before + 0.3 * seconds
        self.say("updating", now=True)

    def say(self, phase: str, *, now: bool = False) -> None:
        """Writes what is being done, at most once a second unless it is to be known now.

        Raises:
            EndedError: the run has moved on to another attempt.
        """
        if not now and time.monotonic() - self._said_at < BEAT_SECONDS:
            return
        self._said_at = time.monotonic()
        is_current = attempt_write(
            "beat",
            lambda: runs.beat(
                self.db, self.run.id, self.run.attempt,
                update=self.position.update or None, num_updates=self.num_updates, phase=phase,
                seconds_per_update=self._seconds_per_update,
            ),
        )  # fmt: skip
        if is_current is False:
            raise exits.EndedError(exits.STOPPED, "The run has moved on to another attempt.")


@contextmanager
def interrupting(stop: threading.Event, stack: RewardStack, seconds: float) -> Iterator[None]:
    """Meanwhile, a stop that was asked for and has not come about after some seconds interrupts the rewards:
    one that hangs may take longer than a stop may.
    """
    is_over = threading.Event()

    def watch() -> None:
        while not (is_over.is_set() or stop.wait(_LOOK_SECONDS)):
            pass
        if not is_over.wait(seconds):
            _log.warning("a stop was asked for %g s ago: rewards are not waited for any more", seconds)
            stack.interrupt()

    threading.Thread(target=watch, name="stop watch", daemon=True).start()
    try:
        yield
    finally:
        is_over.set()

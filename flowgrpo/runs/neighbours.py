"""Other hosts on the same database: which of them has gone, by signs of life that have stopped.

No two clocks are compared. A sign is gone when it has not changed for a minute in which this host could
read it, so that neither a clock that is wrong nor a database that was away buries anybody. A run whose lock
some process still holds, on whatever host, is not gone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from flowgrpo.runs import layout
from storage import neighbours
from storage.engine import Database
from storage.locks import is_held
from storage.models import Run, RunAttempt

SILENT_SECONDS = 60.0
"""Shims and workers beat every five seconds."""
LOOK_SECONDS = 2.0
_log = logging.getLogger(__name__)


class Stillness:
    """For how long each of some signs has stood still while somebody looked."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked_at = clock()
        self._signs: dict[str, tuple[object, float]] = {}

    def look(self, signs: Mapping[str, object]) -> dict[str, float]:
        """Name to seconds. Time in which nobody looked does not count."""
        now = self._clock()
        passed, self._looked_at = min(now - self._looked_at, 2 * LOOK_SECONDS), now
        seen = {}
        for name, sign in signs.items():
            before, still = self._signs.get(name, (None, 0.0))
            seen[name] = (sign, still + passed if before == sign else 0.0)
        self._signs = seen
        return {name: still for name, (_, still) in seen.items()}


class Neighbours:
    """Watches over what other hosts have in work.

    Args:
        host: the name of this host.
        silent_seconds: after how long without a sign of life a host has gone.
    """

    def __init__(self, db: Database, host: str, silent_seconds: float = SILENT_SECONDS) -> None:
        self.db, self.host, self.silent_seconds = db, host, silent_seconds
        self._runs, self._workers = Stillness(), Stillness()
        self._next_look = 0.0

    def lost_runs(self) -> list[tuple[Run, RunAttempt]]:
        """Active runs of hosts that have gone. What their engine workers had in work is queued again."""
        if self.db.is_sqlite or time.monotonic() < self._next_look:
            return []
        self._next_look = time.monotonic() + LOOK_SECONDS
        self._take_back_groups()
        there = neighbours.runs_elsewhere(self.db, self.host)
        still = self._runs.look({run.id: (run.attempt, beat_at) for run, _, beat_at in there})
        return [
            (run, attempt)
            for run, attempt, _ in there
            if still[run.id] >= self.silent_seconds and not is_held(layout.run_lock(self.db.home, run.id))
        ]

    def _take_back_groups(self) -> None:
        beats = neighbours.busy_workers_elsewhere(self.db, self.host)
        for name, seconds in self._workers.look(beats).items():
            if seconds >= self.silent_seconds and neighbours.take_back(self.db, name, beats[name]):
                _log.warning("worker %s has gone: what it had in work is queued again", name)

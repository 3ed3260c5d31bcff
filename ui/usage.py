"""The last measure of the data folder, taken beside the pages: shown with its age, and never waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from storage.types import utc_now
from storage.usage import Measured, measure

FRESH = timedelta(minutes=1)
"""A measure that is older is taken again when somebody looks."""


class Usage:
    """Measures in a thread of its own, one at a time.

    Args:
        home: the data folder.
        measuring: what measures it.
    """

    def __init__(self, home: Path, measuring: Callable[[Path], Measured] = measure) -> None:
        self._home, self._measuring = home, measuring
        self._lock = threading.Lock()
        self._last: Measured | None = None
        self._thread: threading.Thread | None = None

    def look(self) -> Measured | None:
        """The last measure, at once; None before the first. An old one is taken again meanwhile."""
        with self._lock:
            is_fresh = self._last is not None and utc_now() - self._last.at < FRESH
            if not is_fresh and not self.is_measuring():
                self._thread = threading.Thread(target=self._measure, name="storage use", daemon=True)
                self._thread.start()
            return self._last

    def is_measuring(self) -> bool:
        """Whether a measure is being taken now."""
        return self._thread is not None and self._thread.is_alive()

    def _measure(self) -> None:
        found = self._measuring(self._home)
        with self._lock:
            self._last = found

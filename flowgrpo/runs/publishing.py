"""Tells the pages, which load no tensors, what is known of every reward on this machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from flowgrpo.rewards import registry
from flowgrpo.rewards.fetch import Options
from flowgrpo.rewards.isolated import Limits
from flowgrpo.rewards.plugged import CARD_SECONDS, unasked
from flowgrpo.runs.patience import attempt_write
from flowgrpo.runs.reward_options import options_for
from storage import scores
from storage.engine import Database
from storage.errors import UNAVAILABLE


class RewardCards:
    """The cards of an engine worker's rewards.

    Those of the studio's own are known at once. A plug-in says what it is from a process of its own, which
    may hang: it is asked in a thread, so that nothing waits for it, and until then its card says so.

    Args:
        options: What rewards may use; the head in use and what was accepted are looked up again.
        is_ending: asked between two plug-ins whether this process has to end.
    """

    def __init__(self, db: Database, options: Options, is_ending: Callable[[], bool]) -> None:
        self.db, self.options, self.is_ending = db, options, is_ending
        self._of_others: dict[str, dict[str, object]] = {}
        self._lock = threading.Lock()
        self._asking: threading.Thread | None = None

    def publish(self) -> None:
        """Publishes what is known now; the first time, what plug-ins say follows by itself."""
        if self._asking is not None:
            self._tell()
            return
        others = [name for name in registry.names() if not registry.is_ours(name)]
        self._of_others = self._as_last_seen(others)
        self._tell()
        self._asking = threading.Thread(target=self._ask, args=(others,), name="reward cards", daemon=True)
        self._asking.start()

    def join(self, seconds: float | None = None) -> bool:
        """Waits for the plug-ins; whether all have been asked."""
        if self._asking is not None:
            self._asking.join(seconds)
        return self._asking is not None and not self._asking.is_alive()

    def _as_last_seen(self, others: Sequence[str]) -> dict[str, dict[str, object]]:
        """What an earlier worker knew of the plug-ins: a restart takes nothing from the page."""
        try:
            known = scores.reward_cards(self.db) if others else {}
        except UNAVAILABLE:
            known = {}
        return {name: known.get(name) or unasked(name) for name in others}

    def _ask(self, others: Sequence[str]) -> None:
        """Asks each for a short time; when all have been asked, those that failed again, for a long one."""
        waiting = list(others)
        for seconds in (CARD_SECONDS, Limits.load_seconds):
            for name in waiting:
                if self.is_ending():
                    return
                self._learn(name, registry.card(name, self.options, seconds))
            waiting = [name for name in waiting if self._of_others[name]["direction"] == "disabled"]

    def _learn(self, name: str, card: dict[str, object]) -> None:
        with self._lock:
            self._of_others[name] = card
        if not self.is_ending():
            self._tell()

    def _tell(self) -> None:
        attempt_write("reward cards", self._write)

    def _write(self) -> None:
        options = options_for(self.db, self.options.weights, self.options.device)
        with self._lock:
            ours = {name: registry.card(name, options) for name in registry.names() if registry.is_ours(name)}
            scores.publish_cards(self.db, ours | self._of_others)

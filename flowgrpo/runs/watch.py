"""What a run tells a person while it goes on: everything odd as an event of its history, and each once."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from flowgrpo.guards import Alarm, alarms, hacking
from flowgrpo.runs.patience import attempt_write
from flowgrpo.runs.scoring import DIVERSITY
from storage import runs
from storage.engine import Database
from storage.models import Run

HELD_OUT_DIVERSITY = f"held_out/{DIVERSITY}"
"""Measured on every sample grid, always at the same prompts and seeds."""
MAX_REASONS = 3
_log = logging.getLogger(__name__)


class Watch:
    """Writes the warnings and alarms of one attempt; what an earlier attempt has said is not said again."""

    def __init__(self, db: Database, run: Run) -> None:
        self.db = db
        self.run = run
        self._said = {event.detail for event in runs.events(db, run.id) if event.kind == "warning"}
        self._updates: dict[int, dict[str, float]] = {}
        self._holding: set[tuple[str, str, str]] = set()

    def warn(self, sentence: str) -> None:
        """Records a warning, unless the run has it already.

        Raises:
            StaleAttemptError: the run has moved on to another attempt.
        """
        if sentence not in self._said:
            _log.warning("%s", sentence)
            if self._record("warning", sentence):
                self._said.add(sentence)

    def gaps(self, reasons: Mapping[str, str]) -> None:
        """Warns of rewards that left images without a score: reward name to why.

        A reason may hold a number that changes, so of each reward only the first few are told.
        """
        for name, reason in reasons.items():
            start = f"{name} left images without a score: "
            if sum(sentence.startswith(start) for sentence in self._said) < MAX_REASONS:
                self.warn(f"{start}{reason}.")

    def recall(self, last_update: int) -> None:
        """Takes up the metrics of earlier attempts up to an update; alarms that held then are not new."""
        for metric in runs.metrics_since(self.db, self.run.id, -1):
            if metric.update <= last_update:
                self._updates.setdefault(metric.update, {})[metric.name] = metric.value
        self._holding = {alarm.key for alarm in self._found()}

    def follow(self, update: int, metrics: Mapping[str, float]) -> None:
        """Takes in metrics of an update, and records each alarm that they raise anew."""
        self._updates.setdefault(update, {}).update(metrics)
        self._holding = {a.key for a in self._found() if a.key in self._holding or self._raise(update, a)}

    def _raise(self, update: int, alarm: Alarm) -> bool:
        sentence = f"{alarm.sentence[0].upper()}{alarm.sentence[1:]}."
        _log.warning("alarm at update %d: %s", update, sentence)
        return self._record("alarm", sentence)

    def _found(self) -> list[Alarm]:
        """The alarms of now. Update 0 is the base's sample grid, to which the later grids are compared."""
        found = alarms([metrics for update, metrics in self._updates.items() if update])
        diversity = [m[HELD_OUT_DIVERSITY] for m in self._updates.values() if HELD_OUT_DIVERSITY in m]
        collapse = hacking((), (), diversity)
        return [*found, collapse] if collapse else found

    def _record(self, kind: str, sentence: str) -> bool:
        """Whether the event could be written; a busy database is asked again at the next occasion."""

        def write() -> bool:
            runs.record_event(self.db, self.run.id, self.run.attempt, kind, sentence)
            return True

        return attempt_write(kind, write) is not None

"""What a run tells a person while it goes on: everything odd as an event of its history, and each once."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from flowgrpo.runs.patience import attempt_write
from storage import runs
from storage.engine import Database
from storage.models import Run

_log = logging.getLogger(__name__)


class Watch:
    """Writes the warnings of one attempt; what an earlier attempt has said is not said again."""

    def __init__(self, db: Database, run: Run) -> None:
        self.db = db
        self.run = run
        self._said = {event.detail for event in runs.events(db, run.id) if event.kind == "warning"}

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
        """Warns of rewards that left images without a score: reward name to why."""
        for name, reason in reasons.items():
            self.warn(f"{name} left images without a score: {reason}.")

    def _record(self, kind: str, sentence: str) -> bool:
        """Whether the event could be written; a busy database is asked again at the next occasion."""

        def write() -> bool:
            runs.record_event(self.db, self.run.id, self.run.attempt, kind, sentence)
            return True

        return attempt_write(kind, write) is not None

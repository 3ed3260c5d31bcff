"""What a run tells a person while it goes on: everything odd as an event of its history, and each once."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from flowgrpo.guards import WENT_BACK, Alarm, alarms
from flowgrpo.hacking import hacking
from flowgrpo.runs.patience import attempt_write
from storage import runs
from storage.engine import Database
from storage.models import Run

MAX_REASONS = 3
_NUMBER = re.compile(r"-?\d[\d.]*(e[+-]?\d+)?")
_GAP = " left images without a score: "
_log = logging.getLogger(__name__)


class Watch:
    """Writes the warnings and alarms of one attempt; what an earlier attempt has said is not said again.

    Args:
        judges: the held-out scores of the sample grids that no reward contains.
    """

    def __init__(self, db: Database, run: Run, judges: Sequence[str] = ()) -> None:
        self.db = db
        self.run = run
        self.judges = judges
        earlier = [(event.kind, event.detail or "") for event in runs.events(db, run.id)]
        self._said = set(earlier)
        gaps = [detail.partition(_GAP) for _, detail in earlier if _GAP in detail]
        self._reasons = {name: reason.removesuffix(".") for name, _, reason in gaps}
        self._updates: dict[int, dict[str, float]] = {}
        self._holding: set[tuple[str, str]] = set()

    @property
    def is_judged(self) -> bool:
        """Whether some score that no reward contains could be had of the base's grid."""
        return any(f"held_out_error/{judge}" in self._updates.get(0, {}) for judge in self.judges)

    def warn(self, sentence: str) -> None:
        """Records a warning, unless the run has it already.

        Raises:
            StaleAttemptError: the run has moved on to another attempt.
        """
        self._tell("warning", sentence)

    def gaps(self, reasons: Mapping[str, str]) -> None:
        """Warns of rewards that left images without a score: reward name to why.

        A reason may hold a number that changes, so of each reward only the first few are told.
        """
        self._reasons |= reasons
        for name, reason in reasons.items():
            start = f"{name}{_GAP}"
            if sum(sentence.startswith(start) for _, sentence in self._said) < MAX_REASONS:
                self.warn(f"{start}{reason}.")

    def notes(self, warnings: Mapping[str, str]) -> None:
        """Passes on what rewards say of their columns: reward name to what was said.

        Two sentences that differ in numbers alone are of one kind, and each kind is told once; of each reward
        only the first few.
        """
        for name, words in warnings.items():
            start = f"{name} says: "
            for sentence in dict.fromkeys(f"{start}{part}." for part in words.split("; ")):
                told = {_kind(other) for _, other in self._said if other.startswith(start)}
                if len(told) < MAX_REASONS and _kind(sentence) not in told:
                    self.warn(sentence)

    def recall(self, history: Mapping[int, Mapping[str, float]]) -> None:
        """Takes up the metrics of earlier attempts, by update; alarms that held then are not new."""
        self._updates = {update: dict(history[update]) for update in sorted(history)}
        self._holding = {alarm.key for alarm in self.standing()}

    def follow(self, update: int, metrics: Mapping[str, float]) -> None:
        """Takes in metrics of an update, and records each alarm that they raise anew."""
        self._updates.setdefault(update, {}).update(metrics)
        found = self.standing()
        self._holding = {a.key for a in found if a.key in self._holding or self._raise(update, a)}

    def went_back(self, update: int, target: int, why: str) -> dict[str, float]:
        """Notes that the run goes on from the weights of `target` as of now; returns that as a metric."""
        metrics = {WENT_BACK: float(target)}
        self.follow(update, metrics)
        place = f"update {target}" if target else "its start"
        self._tell(
            "recovery",
            f"After update {update} the run went back to the weights of {place} and learns at half the rate "
            f"since: {why}.",
        )
        return metrics

    def standing(self) -> list[Alarm]:
        """The alarms of now. Update 0 is the base, to which the later updates are compared."""
        base = self._updates.get(0, {})
        history = [metrics for update, metrics in self._updates.items() if update]
        found = [self._with_reason(alarm) for alarm in alarms(history, base)]
        weights = self.run.config.get("reward_weights", {})
        return [*found, *hacking(base, history, self.judges, weights)]

    def _with_reason(self, alarm: Alarm) -> Alarm:
        """A reward that could not score, and what it said last."""
        reason = self._reasons.get(alarm.subject) if alarm.name == "unscored" else None
        return replace(alarm, sentence=f"{alarm.sentence}. It says: {reason}") if reason else alarm

    def _raise(self, update: int, alarm: Alarm) -> bool:
        sentence = in_words(alarm)
        _log.warning("alarm at update %d: %s", update, sentence)
        return self._record("alarm", sentence)

    def _tell(self, kind: str, sentence: str) -> None:
        if (kind, sentence) not in self._said:
            _log.warning("%s", sentence)
            if self._record(kind, sentence):
                self._said.add((kind, sentence))

    def _record(self, kind: str, sentence: str) -> bool:
        """Whether the event could be written; a busy database is asked again at the next occasion."""

        def write() -> bool:
            runs.record_event(self.db, self.run.id, self.run.attempt, kind, sentence)
            return True

        return attempt_write(kind, write) is not None


def _kind(sentence: str) -> str:
    return _NUMBER.sub("#", sentence)


def in_words(alarm: Alarm) -> str:
    """The alarm as a sentence of its own."""
    return f"{alarm.sentence[0].upper()}{alarm.sentence[1:]}."

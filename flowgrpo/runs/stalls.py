"""Finds a trainer that lives and gets no further: says so, with what each of its threads is at.

How long it has stood still is measured on this process's own clock, so that a clock that jumps alarms nobody.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Literal

import psutil

from flowgrpo.runs import layout
from flowgrpo.runs.patience import attempt_write
from storage import runs, stalls
from storage.engine import Database
from storage.models import RunBeat
from storage.run_rules import RunRules, run_rules

PACES = 10
"""Times its usual update after which a slow run stands still."""
WAITS = "waiting"
"""How the phases begin in which a run waits for people or for its device, which is no stall."""
DUMP_SECONDS = 1.0
_STACK_LINES = 60
_log = logging.getLogger(__name__)
Verdict = Literal["moves", "stalled", "end"]


class StallWatch:
    """Looks at the progress of one attempt; call `look` every few seconds.

    Args:
        tree: the live processes of the attempt, whose stacks are asked for.
    """

    def __init__(
        self, db: Database, run_id: str, attempt: int, tree: Callable[[], list[psutil.Process]]
    ) -> None:
        self.db, self.run_id, self.attempt, self.tree = db, run_id, attempt, tree
        self._seen: datetime | None = None
        self._since = time.monotonic()
        self._is_told = False

    def look(self) -> Verdict:
        """Whether the run moves; `end` once it has stood still for so long that the rules end it."""
        beat = attempt_write("stall", lambda: runs.beat_of(self.db, self.run_id))
        rules = attempt_write("stall", lambda: run_rules(self.db))
        if beat is None or rules is None:
            return "moves"
        if beat.progress_at != self._seen or beat.phase.startswith(WAITS):
            self._seen, self._since, self._is_told = beat.progress_at, time.monotonic(), False
            return "moves"
        still, limit = time.monotonic() - self._since, limit_of(beat, rules)
        if still < limit:
            return "moves"
        self._tell(beat, still)
        return "end" if rules.end_stalled and still >= 2 * limit else "stalled"

    def _tell(self, beat: RunBeat, still: float) -> None:
        if self._is_told:
            return
        stack = ask_for_stacks(self.tree(), layout.run_log(self.db.home, self.run_id))
        detail = f"{no_progress(still)} at update {beat.update} ({beat.phase}). " + (
            "What each of its threads is at stands in the log." if stack else "It does not say what it is at."
        )
        _log.warning("%s", detail)
        payload = {"stack": stack, "seconds": round(still)}
        write = attempt_write(
            "stall", lambda: stalls.mark_stalled(self.db, self.run_id, self.attempt, detail, payload)
        )
        self._is_told = write is not None


def limit_of(beat: RunBeat, rules: RunRules) -> float:
    """Seconds without progress after which a run stands still."""
    return max(60 * rules.stall_minutes, PACES * (beat.seconds_per_update or 0.0))


def no_progress(seconds: float) -> str:
    """As a person reads it: No progress for 12 min."""
    return f"No progress for {seconds / 60:.0f} min" if seconds >= 60 else f"No progress for {seconds:.0f} s"


def ask_for_stacks(tree: list[psutil.Process], log: Path) -> list[str]:
    """Has every process that knows how write the stacks of its threads into the log; returns those lines."""
    asked = [one for one in tree if _dumps_stacks(one.pid)]
    for one in asked:
        with suppress(psutil.Error):
            one.send_signal(signal.SIGUSR1)
    if not asked:
        return []
    time.sleep(DUMP_SECONDS)
    lines = layout.log_tail(log, 4 * _STACK_LINES)
    starts = [n for n, line in enumerate(lines) if line.startswith(("Current thread", "Thread 0x"))]
    return lines[starts[-min(len(starts), 8)] :][:_STACK_LINES] if starts else []


def _dumps_stacks(pid: int) -> bool:
    """Whether a process catches the signal; one that does not would be ended by it."""
    with suppress(OSError, StopIteration, ValueError):
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        caught = next(line for line in status if line.startswith("SigCgt:")).split()[1]
        return bool(int(caught, 16) >> (signal.SIGUSR1 - 1) & 1)
    return False

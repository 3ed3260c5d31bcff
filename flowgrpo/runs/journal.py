"""The curves of a run: a file that is the truth, and rows that follow it when the database has time."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from flowgrpo.runs import exits
from flowgrpo.runs.patience import attempt_write, insist
from storage import runs
from storage.engine import Database

FLUSH_SECONDS = 2.0
"""Rows are written at most this often."""
_log = logging.getLogger(__name__)


class Journal:
    """Appends to `metrics.jsonl`, then to the metric table; what is busy or full only delays it."""

    def __init__(self, db: Database, run_id: str, attempt: int, path: Path) -> None:
        self.db = db
        self.run_id = run_id
        self.attempt = attempt
        self.path = path
        self._lines: list[str] = []
        self._pending: dict[int, dict[str, float]] = {}
        self._flushed_at = 0.0

    def catch_up(self, last_update: int) -> None:
        """Hands the rows over that an earlier attempt had no time to write, up to `last_update`."""
        known = {(metric.update, metric.name) for metric in runs.metrics_since(self.db, self.run_id, -1)}
        for update, values in self._entries(last_update):
            missing = {name: value for name, value in values.items() if (update, name) not in known}
            if missing:
                self._pending.setdefault(update, {}).update(missing)

    def history(self, last_update: int) -> dict[int, dict[str, float]]:
        """Update to metrics, up to `last_update`, as the file has them; what was written last counts.

        Where an attempt began again from an earlier update, what came after that is forgotten.
        """
        found: dict[int, dict[str, float]] = {}
        for update, values in self._entries(last_update):
            for later in [known for known in found if known > update]:
                del found[later]
            found.setdefault(update, {}).update(values)
        return found

    def _entries(self, last_update: int) -> Iterator[tuple[int, dict[str, float]]]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        for entry in filter(None, map(_parsed, lines)):
            if entry[0] <= last_update:
                yield entry

    def record(self, update: int, values: Mapping[str, float]) -> None:
        """Notes one point of each curve; what is not finite is a gap."""
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        self._lines.append(json.dumps({"update": update, **finite}))
        self._append()
        self._pending.setdefault(update, {}).update(finite)
        if time.monotonic() - self._flushed_at >= FLUSH_SECONDS:
            self.flush()

    def _append(self, *, must: bool = False) -> None:
        """Writes the lines that wait. What a full disk cut off stays behind as a line of its own."""
        if not self._lines:
            return
        try:
            with self.path.open("a+b") as file:
                file.seek(-min(1, file.tell()), os.SEEK_END)
                start = "" if file.read(1) in (b"", b"\n") else "\n"
                file.write((start + "\n".join(self._lines) + "\n").encode())
        except OSError as error:
            if must or not exits.is_full_disk(error):
                raise
            _log.warning("metrics: not written now (%s)", error)
            return
        self._lines.clear()

    def flush(self, *, must: bool = False) -> None:
        """Writes what is pending; unless it `must` be written, a busy database keeps it for later."""
        self._append(must=must)
        self._flushed_at = time.monotonic()
        for update, values in sorted(self._pending.items()):
            write = partial(runs.record_metrics, self.db, self.run_id, self.attempt, update, values)
            if (insist("metrics", write) if must else attempt_write("metrics", write)) is None:
                return
            del self._pending[update]


def _parsed(line: str) -> tuple[int, dict[str, float]] | None:
    """One line of the file; None for a last line that a crash cut off."""
    try:
        values = json.loads(line)
        return int(values.pop("update")), values
    except (ValueError, KeyError, AttributeError):
        return None

"""The end of a run's log, as plain text: whatever a program wrote, nothing of it is markup or control."""

from __future__ import annotations

import re
from pathlib import Path

from storage.engine import Database
from storage.log_files import end_of, size_of

LOG_LINES = 500
_LOG_BYTES = 128 * 1024
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def log_path(db: Database, run_id: str) -> Path:
    """Where a run's log is."""
    return db.home / "runs" / run_id / "log.txt"


def log_size(db: Database, run_id: str) -> int:
    """Bytes written so far; 0 where there is no log. While it stays the same there is no news."""
    return size_of(log_path(db, run_id))


def log_tail(db: Database, run_id: str, lines: int = LOG_LINES) -> str:
    """The last lines; empty when there is none. Of a line that was written over, what it said last."""
    text = end_of(log_path(db, run_id), _LOG_BYTES).decode("utf-8", "replace")
    if not text:
        return ""
    written = _ANSI.sub("", text).replace("\r\n", "\n").rstrip("\n").split("\n")[-lines:]
    said = [line.rstrip("\r").rpartition("\r")[2] for line in written]
    return "\n".join("".join(char for char in line if char.isprintable() or char == "\t") for line in said)

"""What the doctor says: a line for each thing that was looked at."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is, and what to do about it."""

    level: Level
    what: str
    advice: str = ""

    def __str__(self) -> str:
        sign = {"ok": "ok  ", "note": "note", "problem": "BAD "}[self.level]
        return f"{sign}  {self.what}" + (f": {self.advice}" if self.advice else "")

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)

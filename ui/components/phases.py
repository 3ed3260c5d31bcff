"""Where the seconds of an update go: sampling, scoring and learning, stacked, an update a column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ui.components import span
from ui.components.curves import Lines
from ui.language import t

WIDTH, HEIGHT = 300.0, 96.0
_PHASES = ("rollout", "reward", "update")
MAX_COLUMNS = 60
"""The newest updates; more columns would not be told apart."""
_GAP = 1.0


@dataclass(frozen=True)
class Block:
    """One phase of one update, in a WIDTH x HEIGHT box."""

    phase: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Phases:
    """The card: blocks, what the newest update took, and (phase, its name, its seconds then)."""

    blocks: Sequence[Block]
    last: str
    parts: Sequence[tuple[str, str, str]]
    last_update: int


def phases_of(lines: Lines) -> Phases | None:
    """Of a run; None before the first update whose learning was timed."""
    seconds = {phase: dict(lines.get(f"seconds/{phase}", ())) for phase in _PHASES}
    updates = sorted(seconds["update"])[-MAX_COLUMNS:]
    if not updates:
        return None
    columns = [[seconds[phase].get(update, 0.0) for phase in _PHASES] for update in updates]
    newest = dict(zip(_PHASES, columns[-1], strict=True))
    parts = [(phase, t(f"train.phase_{phase}"), span(took)) for phase, took in newest.items() if took]
    return Phases(_blocks(columns), span(sum(columns[-1])), parts, updates[-1])


def _blocks(columns: Sequence[Sequence[float]]) -> list[Block]:
    highest = max(sum(column) for column in columns) or 1.0
    width = WIDTH / max(len(columns), 12)
    found: list[Block] = []
    for number, column in enumerate(columns):
        top = HEIGHT
        for phase, took in zip(_PHASES, column, strict=True):
            height = HEIGHT * took / highest
            top -= height
            if height:
                place = round(number * width, 1), round(top, 1)
                found.append(Block(phase, *place, round(width - _GAP, 1), round(height, 1)))
    return found

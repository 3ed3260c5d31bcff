"""One small chart a metric: what each checkpoint has, with its interval, and what it is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, ROW, TOP = 320.0, 22.0, 8.0
_LEFT, _RIGHT = 130.0, 12.0
_NAME = 20
"""Signs of a checkpoint's name that fit beside its bar."""


@dataclass(frozen=True)
class Bar:
    """One checkpoint: `low` to `high` is its interval (equal to `x` where there is none), `x` its value."""

    name: str
    short: str
    y: float
    low: float
    high: float
    x: float
    is_clear: bool
    words: str


@dataclass(frozen=True)
class Chart:
    """One metric, ready to draw in a WIDTH x `height` box; `base` is where the value lies that the others are
    held against, None where it has none."""

    title: str
    better: str
    height: float
    base: float | None
    bars: Sequence[Bar]


def number(value: float, low: float | None = None, high: float | None = None) -> str:
    """A figure to two digits of half its interval, or to four digits where there is none."""
    half = (high - low) / 2 if low is not None and high is not None else 0.0
    if half <= 0:
        return f"{value:.4g}".replace("-", "−")
    digits = 0
    while digits < 6 and half * 10**digits < 10:
        digits += 1
    return f"{value:.{digits}f}".replace("-", "−")


def chart(metric: Mapping[str, Any], rows: Sequence[tuple[str, Mapping[str, Any]]]) -> Chart | None:
    """The chart of a metric.

    Args:
        rows: (name, cell as the result of an evaluation has it); the first is what the others are held
            against. Those without a number are left out.
    """
    had = [(name, cell) for name, cell in rows if cell.get("value") is not None]
    if not had:
        return None
    ends = [float(cell[key]) for _, cell in had for key in ("low", "high", "value") if cell[key] is not None]
    least, most = min(ends), max(ends)
    wide = most - least or max(abs(most), 1.0)

    def place(value: float) -> float:
        share = (value - least) / wide if most > least else 0.5
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * share, 1)

    bars = [_bar(name, cell, TOP + ROW * (index + 0.5), place) for index, (name, cell) in enumerate(had)]
    height = 2 * TOP + ROW * len(bars)
    base = bars[0].x if rows[0][1].get("value") is not None else None
    return Chart(str(metric["title"]), str(metric["better"]), height, base, bars)


def _bar(name: str, cell: Mapping[str, Any], y: float, place: Any) -> Bar:
    value, low, high = cell["value"], cell["low"], cell["high"]
    change = cell.get("change")
    short = name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"
    words = f"{name}: {number(value, low, high)}"
    if low is not None:
        words += f" ({number(low, low, high)} – {number(high, low, high)})"
    ends = (place(value if low is None else low), place(value if high is None else high))
    return Bar(name, short, y, *ends, place(value), bool(change and change["is_clear"]), words)

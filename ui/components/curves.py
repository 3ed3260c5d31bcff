"""Curves of a run, drawn as small SVGs: one line with its spread, its last value, what healthy looks like,
and the same line of other runs where somebody asked to see them together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from storage.models import Metric
from ui.components.plans import Plan, Points, Roles, apart, plans_of

WIDTH, HEIGHT = 300.0, 96.0
_MARGIN = 4.0
MAX_POINTS = 400
"""Points of a line; longer histories are thinned."""
_DIGITS = 4
"""Of a value that is read off a curve."""
Lines = Mapping[str, Points]
"""Metric to its points."""


@dataclass(frozen=True)
class Curve:
    """One card, ready to draw; `path`, `dashed`, `band` and `others` are SVG paths in a WIDTH x HEIGHT box.

    Attributes:
        series: the points as JSON, for who looks closer.
    """

    title: str
    last: str
    path: str
    dashed: str
    band: str
    others: Sequence[str]
    healthy: str
    low: str
    high: str
    last_update: int
    series: str


def lines_of(metrics: Sequence[Metric]) -> dict[str, list[tuple[int, float]]]:
    """Points of each metric, by update."""
    points: dict[str, list[tuple[int, float]]] = {}
    for metric in metrics:
        points.setdefault(metric.name, []).append((metric.update, metric.value))
    return points


def curves_of(lines: Lines, roles: Roles, others: Sequence[Lines] = ()) -> list[Curve]:
    """The cards of a run that have a point; with those of other runs as further lines."""
    plans = plans_of(lines, roles)
    return [
        _curve(plan, lines, [other.get(plan.name, ()) for other in others])
        for plan in (apart(plans) if others else plans)
        if plan.name in lines
    ]


def _curve(plan: Plan, lines: Lines, others: Sequence[Points]) -> Curve:
    line, dashed = _thinned(lines[plan.name]), _thinned(lines.get(plan.dashed or "", ()))
    beside = [_thinned(other) for other in others]
    band = _band(line, lines.get(plan.spread or "", ()))
    everything = [*line, *dashed, *(point for other in beside for point in other)]
    values = [value for _, value in everything] + [value for _, *ends in band for value in ends]
    low = min([*values, *([] if plan.floor is None else [plan.floor])])
    high = max([*values, *([] if plan.ceiling is None else [plan.ceiling])])
    box = _Box(min(update for update, _ in everything), max(update for update, _ in everything), low, high)
    return Curve(
        title=plan.title,
        last=_written(plan.form, line[-1][1]),
        path=box.path(line),
        dashed=box.path(dashed),
        band=box.area(band),
        others=[box.path(other) for other in beside],
        healthy=plan.healthy,
        low=_written(plan.form, low),
        high=_written(plan.form, high),
        last_update=line[-1][0],
        series=_series(box, line, dashed, band, beside),
    )


def _band(line: Points, spread: Points) -> list[tuple[int, float, float]]:
    """(update, low, high): a standard deviation to both sides, where it is known."""
    known = dict(spread)
    return [
        (update, value - known[update], value + known[update]) for update, value in line if update in known
    ]


def _series(
    box: _Box,
    line: Points,
    dashed: Points,
    band: Sequence[tuple[int, float, float]],
    others: Sequence[Points],
) -> str:
    """What is read off: the range of updates, then each line's points, spreads last."""
    spreads = [(update, (high - low) / 2) for update, low, high in band]
    found = {"line": line, "dashed": dashed, "spread": spreads}
    read: dict[str, object] = {
        name: [[update, _short(value)] for update, value in points] for name, points in found.items()
    }
    read["others"] = [[[update, _short(value)] for update, value in other] for other in others]
    return json.dumps({"first": box.first, "last": box.last, **read}, separators=(",", ":"))


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _thinned(points: Points) -> Points:
    if len(points) <= MAX_POINTS:
        return points
    return [*points[:: -(-len(points) // MAX_POINTS)], points[-1]]


def _written(form: str, value: float) -> str:
    return "0" if value == 0 else form.format(value).replace("-", "−")


@dataclass(frozen=True)
class _Box:
    """The range of updates and values that a card shows."""

    first: int
    last: int
    low: float
    high: float

    def path(self, line: Points) -> str:
        """Left to right by update, bottom to top by value; one point is a short dash, none is nothing."""
        steps = [self._place(update, value) for update, value in line]
        if len(steps) == 1:
            return f"M{steps[0]} h6"
        return "M" + " L".join(steps) if steps else ""

    def area(self, band: Sequence[tuple[int, float, float]]) -> str:
        """Between the ends of a band; nothing below two points."""
        if len(band) < 2:
            return ""
        above = [self._place(update, high) for update, _, high in band]
        below = [self._place(update, low) for update, low, _ in reversed(band)]
        return "M" + " L".join([*above, *below]) + " Z"

    def _place(self, update: int, value: float) -> str:
        across = (update - self.first) / (self.last - self.first) if self.last > self.first else 0.0
        up = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        x, y = _MARGIN + (WIDTH - 2 * _MARGIN) * across, HEIGHT - _MARGIN - (HEIGHT - 2 * _MARGIN) * up
        return f"{x:.1f} {y:.1f}"

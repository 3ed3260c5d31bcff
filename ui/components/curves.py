"""Curves of a run, drawn as small SVGs: one line, its last value, and what healthy looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from storage.models import Metric

WIDTH, HEIGHT = 300.0, 96.0
_MARGIN = 4.0
MAX_POINTS = 400
"""Points of a line; longer histories are thinned."""


@dataclass(frozen=True)
class Plan:
    """What a card shows: the first metric of `names` that exists, how to write it, and what is healthy."""

    title: str
    names: tuple[str, ...]
    form: str
    healthy: str
    floor: float | None = None
    """A value that the axis always shows, so that a flat line does not look dramatic."""
    ceiling: float | None = None


FIXED: tuple[Plan, ...] = (
    Plan("held-out judge", ("judge",), "{:.3f}", "healthy: rises too"),
    Plan("diversity", ("diversity",), "{:.3f}", "healthy: keeps 85%", floor=0.0),
    Plan(
        "dead groups",
        ("dead_group_share", "dead_groups"),
        "{:.0%}",
        "healthy: below half",
        floor=0.0,
        ceiling=1.0,
    ),
    Plan("distance from the base", ("kl",), "{:.2g}", "healthy: grows slowly", floor=0.0),
    Plan("ratio − 1", ("ratio_error",), "{:.0e}", "healthy: 0", floor=0.0, ceiling=1e-5),
)


@dataclass(frozen=True)
class Curve:
    """One card, ready to draw; `path` is an SVG path in a WIDTH x HEIGHT box."""

    title: str
    last: str
    path: str
    healthy: str
    low: str
    high: str
    first_update: int
    last_update: int


def curves_of(metrics: Sequence[Metric], weights: Mapping[str, float]) -> list[Curve]:
    """The cards of a run: its rewards by weight, then the fixed ones; those without a point yet are left
    out."""
    points: dict[str, list[tuple[int, float]]] = {}
    for metric in metrics:
        points.setdefault(metric.name, []).append((metric.update, metric.value))
    rewards = sorted(weights, key=lambda name: -abs(weights[name]))
    plans = [Plan("reward", ("reward",), "{:.3f}", "healthy: rises, then levels out")]
    plans += [
        Plan(f"{name} × {weights[name]:g}", (f"reward/{name}",), "{:.3f}", "healthy: rises")
        for name in rewards
    ]
    return [curve for plan in [*plans, *FIXED] if (curve := _curve(plan, points)) is not None]


def _curve(plan: Plan, points: Mapping[str, Sequence[tuple[int, float]]]) -> Curve | None:
    found = next((points[name] for name in plan.names if name in points), None)
    if not found:
        return None
    line = found[:: -(-len(found) // MAX_POINTS)]
    if line[-1] != found[-1]:
        line = [*line, found[-1]]
    values = [value for _, value in line]
    low = min([*values, *([] if plan.floor is None else [plan.floor])])
    high = max([*values, *([] if plan.ceiling is None else [plan.ceiling])])
    return Curve(
        plan.title,
        _written(plan.form, values[-1]),
        _path(line, low, high),
        plan.healthy,
        _written(plan.form, low),
        _written(plan.form, high),
        line[0][0],
        line[-1][0],
    )


def _written(form: str, value: float) -> str:
    return "0" if value == 0 else form.format(value).replace("-", "−")


def _path(line: Sequence[tuple[int, float]], low: float, high: float) -> str:
    """Left to right by update, bottom to top by value; one point is a short dash."""
    first, last = line[0][0], line[-1][0]
    reach = high - low or 1.0

    def place(update: int, value: float) -> str:
        x = _MARGIN + (WIDTH - 2 * _MARGIN) * ((update - first) / (last - first) if last > first else 0.0)
        y = HEIGHT - _MARGIN - (HEIGHT - 2 * _MARGIN) * ((value - low) / reach if high > low else 0.5)
        return f"{x:.1f} {y:.1f}"

    steps = [place(update, value) for update, value in line]
    if len(steps) == 1:
        return f"M{steps[0]} h6"
    return "M" + " L".join(steps)

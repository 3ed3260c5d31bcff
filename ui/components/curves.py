"""Curves of a run, drawn as small SVGs: one line, its last value, and what healthy looks like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from storage.models import Metric

WIDTH, HEIGHT = 300.0, 96.0
_MARGIN = 4.0
MAX_POINTS = 400
"""Points of a line; longer histories are thinned."""


Points = Sequence[tuple[int, float]]
"""(update, value), by update."""


@dataclass(frozen=True)
class Plan:
    """What a card shows: a metric, how to write it, what is healthy, and a dashed metric beside it if
    there is one."""

    title: str
    name: str
    form: str
    healthy: str
    floor: float | None = None
    """A value that the axis always shows, so that a flat line does not look dramatic."""
    ceiling: float | None = None
    dashed: str | None = None


FIXED: tuple[Plan, ...] = (
    Plan("judge, never a reward", "held_out/judge", "{:.3f}", "healthy: does not fall"),
    Plan("diversity", "diversity", "{:.3f}", "healthy: keeps 85%", floor=0.0),
    Plan("dead groups", "groups/dead_share", "{:.0%}", "healthy: below half", floor=0.0, ceiling=1.0),
    Plan("distance from the base", "policy/kl", "{:.2g}", "healthy: grows slowly", floor=0.0),
    Plan("ratio − 1", "policy/ratio_max_deviation", "{:.0e}", "healthy: 0", floor=0.0, ceiling=1e-5),
    Plan("gradient norm", "policy/grad_norm", "{:.2g}", "healthy: no jumps", floor=0.0),
    Plan("saturation", "held_out/saturation", "{:.3f}", "healthy: like the base's", floor=0.0),
    Plan("contrast", "held_out/contrast", "{:.3f}", "healthy: like the base's", floor=0.0),
    Plan("sharpness", "held_out/sharpness", "{:.3f}", "healthy: like the base's", floor=0.0),
)
_WATCHED = "watched only"
GUIDED = Plan("distance, guided base", "policy/kl", "{:.2g}", "healthy: falls", floor=0.0)


@dataclass(frozen=True)
class Curve:
    """One card, ready to draw; `path` and `dashed` are SVG paths in a WIDTH x HEIGHT box."""

    title: str
    last: str
    path: str
    dashed: str
    healthy: str
    low: str
    high: str
    last_update: int


def curves_of(
    metrics: Sequence[Metric],
    weights: Mapping[str, float],
    *,
    has_held_out: bool = True,
    is_guided: bool = False,
    gates: Sequence[str] = (),
    monitors: Sequence[str] = (),
) -> list[Curve]:
    """The cards of a run: its rewards by weight, its judges, its gates, what it watches, then the fixed
    ones; those without a point yet are left out. `has_held_out` tells whether the fixed samples are of
    prompts that are not trained on, `is_guided` whether the run is held to the guided base, which it comes
    closer to."""
    points: dict[str, list[tuple[int, float]]] = {}
    for metric in metrics:
        points.setdefault(metric.name, []).append((metric.update, metric.value))
    fixed = [GUIDED if is_guided and plan.name == GUIDED.name else plan for plan in FIXED]
    plans = [
        *_reward_plans(weights, "held out" if has_held_out else "fixed samples"),
        *_judge_plans(points),
        *_watched_plans(points, gates, monitors),
        *fixed,
    ]
    return [
        _curve(plan, points[plan.name], points.get(plan.dashed or "", ()))
        for plan in plans
        if plan.name in points
    ]


def _reward_plans(weights: Mapping[str, float], beside: str) -> list[Plan]:
    names = sorted(weights, key=lambda name: -abs(weights[name]))
    return [
        Plan(
            f"{name} × {weights[name]:g}",
            f"reward/{name}",
            "{:.3f}",
            f"dashed: {beside}",
            dashed=f"held_out/{name}",
        )
        for name in names
    ]


def _judge_plans(points: Mapping[str, Points]) -> list[Plan]:
    """What judges the sample grids: of a judge alone the error is known at the base's own grid."""
    start = "held_out_error/"
    found = [name.removeprefix(start) for name in sorted(points) if name.startswith(start)]
    judges = [name for name in found if points[f"{start}{name}"][0][0] == 0]
    own = {plan.name for plan in FIXED}
    return [
        Plan(f"{name}, never a reward", f"held_out/{name}", "{:.3f}", "healthy: does not fall")
        for name in judges
        if f"held_out/{name}" not in own
    ]


def _watched_plans(names: Iterable[str], gates: Sequence[str], monitors: Sequence[str]) -> list[Plan]:
    """What fails each gate, each monitor's value, and what rewards measure beside their value, but for looks
    that have a card of their own.
    """
    failed = [
        Plan(f"{name}: failed", f"gate/{name}", "{:.0%}", "healthy: does not rise", floor=0.0, ceiling=1.0)
        for name in gates
    ]
    watched = [Plan(f"{name}, watched", f"monitor/{name}", "{:.3g}", _WATCHED) for name in monitors]
    own = {plan.title for plan in FIXED}
    details = [name.split("/", 1)[1].rsplit("/", 1) for name in sorted(names) if name.startswith("detail/")]
    beside = [
        Plan(f"{reward}: {label}", f"detail/{reward}/{label}", "{:.3g}", _WATCHED)
        for reward, label in details
        if label not in own
    ]
    return [*failed, *watched, *beside]


def _curve(plan: Plan, points: Points, beside: Points) -> Curve:
    line, dashed = _thinned(points), _thinned(beside)
    values = [value for _, value in (*line, *dashed)]
    low = min([*values, *([] if plan.floor is None else [plan.floor])])
    high = max([*values, *([] if plan.ceiling is None else [plan.ceiling])])
    box = _Box(
        min(update for update, _ in (*line, *dashed)),
        max(update for update, _ in (*line, *dashed)),
        low,
        high,
    )
    return Curve(
        title=plan.title,
        last=_written(plan.form, line[-1][1]),
        path=box.path(line),
        dashed=box.path(dashed),
        healthy=plan.healthy if dashed or not plan.dashed else "healthy: rises",
        low=_written(plan.form, low),
        high=_written(plan.form, high),
        last_update=line[-1][0],
    )


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

    def _place(self, update: int, value: float) -> str:
        across = (update - self.first) / (self.last - self.first) if self.last > self.first else 0.0
        up = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        x, y = _MARGIN + (WIDTH - 2 * _MARGIN) * across, HEIGHT - _MARGIN - (HEIGHT - 2 * _MARGIN) * up
        return f"{x:.1f} {y:.1f}"

"""Which curves a run has: for each the metric, how it is written, and what healthy looks like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ui.language import t

Points = Sequence[tuple[int, float]]
"""(update, value), by update."""


@dataclass(frozen=True)
class Plan:
    """What a card shows: a metric, how to write it, what is healthy, and what is drawn beside it.

    Attributes:
        floor, ceiling: values that the axis always shows, so that a flat line does not look dramatic.
        dashed: a metric beside it, as a dashed line.
        spread: a metric that is the standard deviation of it, as a band.
    """

    title: str
    name: str
    form: str
    healthy: str
    floor: float | None = None
    ceiling: float | None = None
    dashed: str | None = None
    spread: str | None = None


@dataclass(frozen=True)
class Roles:
    """What of a run's settings decides its curves.

    Attributes:
        has_held_out: whether the fixed samples are of prompts that are not trained on.
        is_guided: whether the run is held to the guided base, which it comes closer to.
    """

    weights: Mapping[str, float]
    has_held_out: bool = True
    is_guided: bool = False
    gates: Sequence[str] = ()
    monitors: Sequence[str] = ()


_LOOKS = ("saturation", "contrast", "sharpness")
_JUDGE = "held_out/judge"


def plans_of(points: Mapping[str, Points], roles: Roles) -> list[Plan]:
    """The cards of a run: all its rewards together, each by weight, its judges, its gates, what it watches,
    then what every run has. Whether a metric has points is the caller's to look at."""
    return [
        *_together(roles),
        *_reward_plans(roles),
        *_judge_plans(points),
        *_watched_plans(points, roles),
        *_fixed(roles.is_guided),
    ]


def apart(plans: Sequence[Plan]) -> list[Plan]:
    """The same with each dashed line as a card of its own, so that several runs can be told apart."""
    found: list[Plan] = []
    for plan in plans:
        found.append(replace(plan, dashed=None, spread=None))
        if plan.dashed:
            title = t("train.curve_held_out", name=plan.title)
            found.append(Plan(title, plan.dashed, plan.form, t("train.healthy_held_out")))
    return found


def _together(roles: Roles) -> list[Plan]:
    if len(roles.weights) < 2:
        return []
    return [Plan(t("train.curve_together"), "reward/mean", "{:.3f}", t("train.healthy_rises"))]


def _reward_plans(roles: Roles) -> list[Plan]:
    names = sorted(roles.weights, key=lambda name: -abs(roles.weights[name]))
    beside = t("train.dashed_held_out") if roles.has_held_out else t("train.dashed_fixed")
    return [
        Plan(
            f"{name} × {roles.weights[name]:g}",
            f"reward/{name}",
            "{:.3f}",
            beside,
            dashed=f"held_out/{name}",
            spread=f"reward_std/{name}",
        )
        for name in names
    ]


def _judge_plans(points: Mapping[str, Points]) -> list[Plan]:
    """What judges the sample grids: of a judge alone the error is known at the base's own grid."""
    start = "held_out_error/"
    found = [name.removeprefix(start) for name in sorted(points) if name.startswith(start)]
    judges = [name for name in found if points[f"{start}{name}"][0][0] == 0]
    return [
        Plan(t("train.curve_judge", name=name), f"held_out/{name}", "{:.3f}", t("train.healthy_judge"))
        for name in judges
        if f"held_out/{name}" != _JUDGE
    ]


def _watched_plans(names: Iterable[str], roles: Roles) -> list[Plan]:
    """What fails each gate, each monitor's value, and what rewards measure beside their value, but for looks
    that have a card of their own.
    """
    failed = [
        Plan(
            t("train.curve_gate", name=name), f"gate/{name}", "{:.0%}", t("train.healthy_gate"),
            floor=0.0, ceiling=1.0,
        )
        for name in roles.gates
    ]  # fmt: skip
    watched = t("train.healthy_watched")
    values = [
        Plan(t("train.curve_watched", name=name), f"monitor/{name}", "{:.3g}", watched)
        for name in roles.monitors
    ]
    details = [name.split("/", 1)[1].rsplit("/", 1) for name in sorted(names) if name.startswith("detail/")]
    beside = [
        Plan(f"{reward}: {label}", f"detail/{reward}/{label}", "{:.3g}", watched)
        for reward, label in details
        if label not in _LOOKS
    ]
    return [*failed, *values, *beside]


def _fixed(is_guided: bool) -> list[Plan]:
    """What every run has."""

    def plan(key: str, name: str, form: str, floor: float | None = 0.0, ceiling: float | None = None) -> Plan:
        return Plan(t(f"train.curve_{key}"), name, form, t(f"train.healthy_{key}"), floor, ceiling)

    return [
        plan("own_judge", _JUDGE, "{:.3f}", None),
        plan("loss", "policy/loss", "{:.3g}", None),
        plan("diversity", "diversity", "{:.3f}"),
        plan("dead", "groups/dead_share", "{:.0%}", ceiling=1.0),
        plan("kl_guided" if is_guided else "kl", "policy/kl", "{:.2g}"),
        plan("ratio", "policy/ratio_max_deviation", "{:.0e}", ceiling=1e-5),
        plan("clip", "policy/clip_fraction", "{:.1%}", ceiling=0.01),
        plan("gradient", "policy/grad_norm", "{:.2g}"),
        *(plan(look, f"held_out/{look}", "{:.3f}") for look in _LOOKS),
    ]

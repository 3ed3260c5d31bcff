"""Whether a reward is exploited, from what the sample grids of a run show that no reward contains.

A grid is drawn at the same prompts and seeds each time, so that one grid differs from another by the policy
alone. Its metrics are `held_out/<name>`: means over its images of the judges (scores that take no part in
training), of the rewards, of the diversity and of the looks. `held_out_error/<name>` is the standard error of
a judge's or a reward's difference to the base, paired by image; `look_std/<look>`, known of the base alone,
the std over images. `held_out_base/<name>` is there where a reward is another version than it was when the
base's grid was drawn (a refitted head): the base's mean by what it is now. Only that may be compared.
Pure functions of history, like `flowgrpo.guards`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from flowgrpo.guards import Alarm, History, column, since_back

EVALUATIONS = 3
"""Grids in a row at each of which the judge has fallen, while the reward has risen over them all."""
ERRORS = 3.0
"""Standard errors by which the judge must have fallen in them."""
CERTAIN = 3.0
"""Standard errors, a weighted mean over the rewards, by which these may rise on the grid before the judge has
to follow. What is cheap to exploit rises alike in every image, and so for certain, before the judge has lost
anything: at 3 ten exploits of ten are found before it lost one error, at 5 eight (docs/benchmarks.md).
"""
DIVERSITY_LOSS = 0.4
"""Of the base's diversity (docs/benchmarks.md), which must be lost for sure:
by more than a standard error.
"""
LOOK_DRIFT = 4.0
"""Standard deviations of the base's images by which saturation, contrast or sharpness may move."""
_ROUNDING = 1e-6
_SCORED_AGAIN = "held_out_base/"
LOOKS = ("saturation", "contrast", "sharpness")


@dataclass(frozen=True)
class Grid:
    """One sample grid: its metrics, the mean training reward since the last one, the updates since it."""

    metrics: Mapping[str, float]
    reward: float
    age: int


def hacking(
    base: Mapping[str, float],
    history: History,
    judges: Sequence[str],
    weights: Mapping[str, float] | None = None,
) -> list[Alarm]:
    """Every alarm that the newest grid gives rise to.

    Args:
        base: the metrics of the base's own samples.
        history: of the updates since; grids that the run went back from do not count.
        judges: the held-out scores that no reward contains.
        weights: of the rewards; without them, how far these rose on the grids is not known.
    """
    grids = _grids(base, history)
    if len(grids) < 2:
        return []
    falling = list(_exploited(grids, judges, weights or {}))
    known = {alarm.subject for alarm in falling}
    outrun = _outrun(grids, [judge for judge in judges if judge not in known], weights or {})
    return [*falling, *outrun, *_alike(grids), *_drifted(grids)]


def certainty(base: Mapping[str, float], now: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """How far the rewards rose from the base's grid to this one, in standard errors, weighted; NaN where no
    reward tells.
    """
    rises: list[float] = []
    total = 0.0
    for name, weight in weights.items():
        metric, error = f"held_out/{name}", now.get(f"held_out_error/{name}", math.nan)
        start = now.get(f"{_SCORED_AGAIN}{name}", base.get(metric, math.nan))
        if weight and metric in now and math.isfinite(start) and math.isfinite(error):
            rises.append(weight * (now[metric] - start) / max(error, _ROUNDING))
            total += abs(weight)
    return sum(rises) / total if total else math.nan


def _grids(base: Mapping[str, float], history: History) -> list[Grid]:
    rewards = column(history[:1], "reward/mean")
    grids = [Grid(base, rewards[0] if rewards else math.nan, len(history))]
    recent, start = since_back(history), 0
    for index, metrics in enumerate(recent):
        if any(name.startswith("held_out/") for name in metrics):
            rewards = column(recent[start : index + 1], "reward/mean")
            grids.append(Grid(metrics, fmean(rewards) if rewards else math.nan, len(recent) - 1 - index))
            start = index + 1
    return grids


def _exploited(grids: Sequence[Grid], judges: Sequence[str], weights: Mapping[str, float]) -> Iterator[Alarm]:
    last = grids[-EVALUATIONS - 1 :]
    if len(last) <= EVALUATIONS or not _rose(grids[0].metrics, last, weights):
        return
    for judge in judges:
        values = [grid.metrics.get(f"held_out/{judge}", math.nan) for grid in last]
        error = last[-1].metrics.get(f"held_out_error/{judge}", math.inf)
        lost = values[0] - values[-1]
        if _falls(values) and lost > ERRORS * error:
            sentence = (
                f"the reward rose and {_named(judge)} fell by {lost:.2g} in {EVALUATIONS} evaluations: "
                "the reward is likely being exploited"
            )
            yield Alarm("hacking", "pause", sentence, judge, size=lost, age=last[0].age)


def _rose(base: Mapping[str, float], last: Sequence[Grid], weights: Mapping[str, float]) -> bool:
    """Whether the rewards rose over these grids; where one of them became another version, so that its
    training values have no common zero, whether they stand above the base's by what they are now.
    """
    if any(name.startswith(_SCORED_AGAIN) for grid in last for name in grid.metrics):
        return certainty(base, last[-1].metrics, weights) > 0
    return last[-1].reward > last[0].reward


def _outrun(grids: Sequence[Grid], judges: Sequence[str], weights: Mapping[str, float]) -> Iterator[Alarm]:
    """The rewards rose far, at the same prompts and seeds, and a judge did not follow."""
    base, now = grids[0].metrics, grids[-1].metrics
    rise = certainty(base, now, weights)
    if not rise > CERTAIN:
        return
    for judge in judges:
        change = now.get(f"held_out/{judge}", math.nan) - base.get(f"held_out/{judge}", math.nan)
        error = now.get(f"held_out_error/{judge}", math.inf)
        start = f"the reward rose by {rise:.0f} standard errors and {_named(judge)}"
        if -change > ERRORS * error:
            sentence = f"{start} fell by {-change:.2g}: the reward is likely being exploited"
            yield Alarm("hacking", "pause", sentence, judge, size=-change, age=grids[-2].age)
        elif change <= 0:
            sentence = f"{start} did not rise with it: look whether the samples became better"
            yield Alarm("hacking", "warn", sentence, judge)


def _alike(grids: Sequence[Grid]) -> Iterator[Alarm]:
    values = [grid.metrics.get("held_out/diversity", math.nan) for grid in (grids[0], grids[-1])]
    error = grids[-1].metrics.get("held_out_error/diversity", 0.0)
    if values[1] + error < (1 - DIVERSITY_LOSS) * values[0]:
        lost = 1 - values[1] / values[0]
        sentence = f"images of one prompt are {lost:.0%} more alike than the base's"
        yield Alarm("collapse", "pause", sentence, size=lost, age=grids[-2].age)


def _drifted(grids: Sequence[Grid]) -> Iterator[Alarm]:
    base, now = grids[0].metrics, grids[-1].metrics
    for look in LOOKS:
        std = base.get(f"look_std/{look}", math.nan)
        drift = now.get(f"held_out/{look}", math.nan) - base.get(f"held_out/{look}", math.nan)
        if abs(drift) > LOOK_DRIFT * std:
            way = "more" if drift > 0 else "less"
            sentence = f"images have far {way} {look} than the base's"
            yield Alarm("looks", "pause", sentence, look, size=abs(drift), age=grids[-2].age)


def _named(judge: str) -> str:
    return "the judge" if judge == "judge" else f"{judge}, which is no part of it,"


def _falls(values: Sequence[float]) -> bool:
    return all(later < earlier for earlier, later in pairwise(values))

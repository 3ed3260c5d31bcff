"""Whether a reward is exploited, from what the sample grids of a run show that no reward contains.

A grid is drawn at the same prompts and seeds each time, so that one grid differs from another by the policy
alone. Its metrics are `held_out/<name>`: means over its images of the judges (scores that take no part in
training), of the diversity and of the looks. `held_out_error/<judge>` is the standard error of a judge's
difference to the base, paired by image; `look_std/<look>`, known of the base alone, the std over images.
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
DIVERSITY_LOSS = 0.3
LOOK_DRIFT = 4.0
"""Standard deviations of the base's images by which saturation, contrast or sharpness may move."""
LOOKS = ("saturation", "contrast", "sharpness")


@dataclass(frozen=True)
class Grid:
    """One sample grid: its metrics, the mean training reward since the last one, the updates since it."""

    metrics: Mapping[str, float]
    reward: float
    age: int


def hacking(base: Mapping[str, float], history: History, judges: Sequence[str]) -> list[Alarm]:
    """Every alarm that the newest grid gives rise to.

    Args:
        base: the metrics of the base's own samples.
        history: of the updates since; grids that the run went back from do not count.
        judges: the held-out scores that no reward contains.
    """
    grids = _grids(base, history)
    if len(grids) < 2:
        return []
    return [*_exploited(grids, judges), *_alike(grids), *_drifted(grids)]


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


def _exploited(grids: Sequence[Grid], judges: Sequence[str]) -> Iterator[Alarm]:
    last = grids[-EVALUATIONS - 1 :]
    if len(last) <= EVALUATIONS or not last[-1].reward > last[0].reward:
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


def _alike(grids: Sequence[Grid]) -> Iterator[Alarm]:
    values = [grid.metrics.get("held_out/diversity", math.nan) for grid in (grids[0], grids[-1])]
    if values[1] < (1 - DIVERSITY_LOSS) * values[0]:
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

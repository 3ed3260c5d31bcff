"""Alarms over the metrics of a run: what has gone wrong, in a sentence. Pure functions of history.

A history is a list of metrics by name, one per update, oldest first; a metric that is absent is not judged.
The thresholds are starting points; tests hold each to a curve that fires it and to healthy ones that do not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

History = Sequence[Mapping[str, float]]

SKIPS_IN_A_ROW = 3
SKIPS_IN_100 = 10
DEAD_SHARE = 0.5
DEAD_SHARE_TO_PAUSE = 0.9
DEAD_UPDATES = 5
RATIO_ERROR = 1e-2
CLIP_FRACTION = 0.5
COLLAPSED_SPREAD = 0.1
UNSCORED_SHARE = 0.05
BASELINE_UPDATES = 20
DIVERSITY_LOSS = 0.3
EVALUATIONS = 3


@dataclass(frozen=True)
class Alarm:
    """What a guard has seen. `pause` asks for a person before the run goes on."""

    name: str
    level: Literal["warn", "pause"]
    sentence: str
    subject: str = ""
    """The reward that it is about, where it is about one."""

    @property
    def key(self) -> tuple[str, str, str]:
        """What stays the same while the alarm holds, whatever the numbers in its sentence."""
        return self.name, self.subject, self.level


def alarms(history: History) -> list[Alarm]:
    """Every alarm that the newest update gives rise to."""
    if not history:
        return []
    found: list[Alarm] = []
    for guard in (_skips, _dead_groups, _replay, _clipping, _spread, _unscored):
        found.extend(guard(history))
    return found


def hacking(rewards: Sequence[float], held_out: Sequence[float], diversity: Sequence[float]) -> Alarm | None:
    """Whether the reward is exploited: it rises while the judge falls, or images become alike.

    One number per evaluation, oldest first; the first is the base.
    """
    recent = slice(-EVALUATIONS - 1, None)
    if len(rewards) > EVALUATIONS and _rises(rewards[recent]) and _rises([-x for x in held_out[recent]]):
        sentence = f"the reward rose and the judge fell in {EVALUATIONS} evaluations: compare with the base"
        return Alarm("hacking", "pause", sentence)
    if len(diversity) > 1 and diversity[-1] < (1 - DIVERSITY_LOSS) * diversity[0]:
        lost = 1 - diversity[-1] / diversity[0]
        sentence = f"images of one prompt are {lost:.0%} more alike than the base's: look at them"
        return Alarm("collapse", "pause", sentence)
    return None


def _rises(values: Sequence[float]) -> bool:
    return all(later > earlier for earlier, later in pairwise(values))


def _column(history: History, name: str) -> list[float]:
    return [metrics[name] for metrics in history if name in metrics]


def _skips(history: History) -> Iterator[Alarm]:
    skipped = _column(history, "policy/skipped")
    if len(skipped) >= SKIPS_IN_A_ROW and all(skipped[-SKIPS_IN_A_ROW:]):
        yield Alarm(
            "skips", "pause", f"{SKIPS_IN_A_ROW} updates in a row were not finite: lower the learning rate"
        )
    elif sum(skipped[-100:]) >= SKIPS_IN_100:
        yield Alarm(
            "skips", "pause", f"{SKIPS_IN_100} of 100 updates were not finite: lower the learning rate"
        )


def _dead_groups(history: History) -> Iterator[Alarm]:
    shares = _column(history, "groups/dead_share")[-DEAD_UPDATES:]
    if len(shares) == DEAD_UPDATES and min(shares) > DEAD_SHARE_TO_PAUSE:
        yield Alarm(
            "dead_groups", "pause", "the rewards see no difference within groups: there is nothing to learn"
        )
    elif shares and shares[-1] > DEAD_SHARE:
        yield Alarm(
            "dead_groups", "warn", f"{shares[-1]:.0%} of the groups show no difference to the rewards"
        )


def _replay(history: History) -> Iterator[Alarm]:
    errors = _column(history, "policy/ratio_max_deviation")
    if errors and not errors[-1] <= RATIO_ERROR:
        yield Alarm(
            "ratio_error", "warn", f"the update replayed the sampler with an error of {errors[-1]:.1e}"
        )


def _clipping(history: History) -> Iterator[Alarm]:
    fractions = _column(history, "policy/clip_fraction")
    if fractions and fractions[-1] > CLIP_FRACTION:
        yield Alarm(
            "clipping",
            "warn",
            f"{fractions[-1]:.0%} of the transitions were clipped: take fewer steps a rollout",
        )


def _spread(history: History) -> Iterator[Alarm]:
    for name in sorted({name for metrics in history for name in metrics if name.startswith("reward_std/")}):
        spread = [value for value in _column(history, name) if math.isfinite(value)]
        if len(spread) > BASELINE_UPDATES and spread[-1] < COLLAPSED_SPREAD * median(
            spread[:BASELINE_UPDATES]
        ):
            reward = name.partition("/")[2]
            sentence = f"reward '{reward}' hardly differs within groups any more"
            yield Alarm("spread", "warn", sentence, reward)


def _unscored(history: History) -> Iterator[Alarm]:
    for name, share in history[-1].items():
        if name.startswith("unscored_share/") and share > UNSCORED_SHARE:
            reward = name.partition("/")[2]
            sentence = f"reward '{reward}' could not score {share:.0%} of the images"
            yield Alarm("unscored", "warn", sentence, reward)

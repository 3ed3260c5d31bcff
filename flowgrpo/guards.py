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
LOOK_DRIFT = 4.0
"""Standard deviations of the base's images by which saturation, contrast or sharpness may move."""
LOOKS = ("saturation", "contrast", "sharpness")
SPIKE_Z = 4.0
SPIKE_DECAY = 0.97
SPIKE_WARM_UP = 20
SPIKES_TO_WARN, SPIKES_TO_PAUSE, SPIKES_IN = 5, 20, 50
KL_TO_WARN, KL_TO_PAUSE = 3.0, 10.0
RATIO_RANGE = (0.9, 1.1)
REWARD_FALL = 3.0
"""Pooled stds within groups by which the mean reward may fall from one update to the next."""
SLOW_UPDATE = 5.0


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
    for guard in (
        _skips, _dead_groups, _replay, _clipping, _ratio, _spread, _unscored, _spikes, _kl, _fall, _slow
    ):  # fmt: skip
        found.extend(guard(history))
    return found


def hacking(
    rewards: Sequence[float],
    held_out: Sequence[float],
    diversity: Sequence[float],
    looks: Mapping[str, Sequence[float]] | None = None,
    look_stds: Mapping[str, float] | None = None,
) -> Alarm | None:
    """Whether the reward is exploited: it rises while the judge falls, images become alike, or look burnt.

    One number per evaluation, oldest first; the first is the base.

    Args:
        looks: saturation, contrast and sharpness.
        look_stds: their std over the base's images.
    """
    recent = slice(-EVALUATIONS - 1, None)
    if len(rewards) > EVALUATIONS and _rises(rewards[recent]) and _rises([-x for x in held_out[recent]]):
        sentence = f"the reward rose and the judge fell in {EVALUATIONS} evaluations: compare with the base"
        return Alarm("hacking", "pause", sentence)
    if len(diversity) > 1 and diversity[-1] < (1 - DIVERSITY_LOSS) * diversity[0]:
        lost = 1 - diversity[-1] / diversity[0]
        sentence = f"images of one prompt are {lost:.0%} more alike than the base's: look at them"
        return Alarm("collapse", "pause", sentence)
    return _drifted(looks or {}, look_stds or {})


def _drifted(looks: Mapping[str, Sequence[float]], stds: Mapping[str, float]) -> Alarm | None:
    for name, values in looks.items():
        if len(values) > 1 and abs(values[-1] - values[0]) > LOOK_DRIFT * stds.get(name, math.inf):
            way = "more" if values[-1] > values[0] else "less"
            sentence = f"images have far {way} {name} than the base's: compare them"
            return Alarm("looks", "pause", sentence, name)
    return None


def spike_bound(norms: Sequence[float]) -> float | None:
    """The largest gradient norm that still belongs to a run with these norms before it; None while it is
    young.

    The z-score is that of the logarithm against its moving average (after ZClip, arXiv 2504.02507).
    """
    known = [math.log(norm) for norm in norms if math.isfinite(norm) and norm > 0]
    if len(known) < SPIKE_WARM_UP:
        return None
    first = known[:SPIKE_WARM_UP]
    mean = sum(first) / len(first)
    variance = sum((x - mean) ** 2 for x in first) / len(first)
    for x in known[SPIKE_WARM_UP:]:
        x = min(x, mean + SPIKE_Z * math.sqrt(variance))  # a spike must not widen what is usual
        mean = SPIKE_DECAY * mean + (1 - SPIKE_DECAY) * x
        variance = SPIKE_DECAY * variance + (1 - SPIKE_DECAY) * (x - mean) ** 2
    return math.exp(mean + SPIKE_Z * max(math.sqrt(variance), 0.05))


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


def _ratio(history: History) -> Iterator[Alarm]:
    means = _column(history, "policy/ratio_mean")
    if means and not RATIO_RANGE[0] <= means[-1] <= RATIO_RANGE[1]:
        yield Alarm("ratio", "warn", f"the mean ratio is {means[-1]:.2f}: take fewer steps a rollout")


def _spikes(history: History) -> Iterator[Alarm]:
    spiked = sum(_column(history, "policy/spike")[-SPIKES_IN:])
    if spiked >= SPIKES_TO_PAUSE:
        sentence = f"the gradient spiked in {spiked:.0f} of {SPIKES_IN} updates: lower the learning rate"
        yield Alarm("spikes", "pause", sentence)
    elif spiked >= SPIKES_TO_WARN:
        yield Alarm("spikes", "warn", f"the gradient spiked in {spiked:.0f} of the last {SPIKES_IN} updates")


def _kl(history: History) -> Iterator[Alarm]:
    """Against the policy's own way of its first updates: a KL grows about linearly with them."""
    kls = _column(history, "policy/kl")
    if len(kls) <= BASELINE_UPDATES or not kls[BASELINE_UPDATES - 1] > 0:
        return
    usual = kls[BASELINE_UPDATES - 1] / BASELINE_UPDATES * len(kls)
    if kls[-1] > KL_TO_PAUSE * usual:
        sentence = f"the policy left the base {kls[-1] / usual:.0f} times as fast as at first: look at it"
        yield Alarm("kl", "pause", sentence)
    elif kls[-1] > KL_TO_WARN * usual:
        yield Alarm(
            "kl", "warn", f"the policy leaves the base {kls[-1] / usual:.0f} times as fast as at first"
        )


def _fall(history: History) -> Iterator[Alarm]:
    """A reward that falls by several stds at once: the policy broke (pitfall 16)."""
    for name in sorted(history[-1]):
        reward = name.removeprefix("reward/")
        values, stds = _column(history, name), _column(history, f"reward_std/{reward}")
        if reward == name or len(values) < 2 or not stds or not math.isfinite(values[-1]):
            continue
        usual, before = median(stds), median(values[-6:-1])
        if usual > 0 and before - values[-1] > REWARD_FALL * usual:
            sentence = f"reward '{reward}' fell by {(before - values[-1]) / usual:.0f} times its usual spread"
            yield Alarm("fall", "pause", sentence, reward)


def _slow(history: History) -> Iterator[Alarm]:
    seconds = _column(history, "seconds/update")
    if len(seconds) > BASELINE_UPDATES and seconds[-1] > SLOW_UPDATE * median(seconds[:-1]):
        times = seconds[-1] / median(seconds[:-1])
        yield Alarm(
            "slow", "warn", f"an update took {times:.0f} times as long as usual: is the machine busy?"
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
    """A reward that worked and fails now pauses the run; one that never could score these prompts was told of
    at the start.
    """
    for name, share in history[-1].items():
        if name.startswith("unscored_share/") and share > UNSCORED_SHARE:
            reward = name.partition("/")[2]
            sentence = f"reward '{reward}' could not score {share:.0%} of the images: mend it or leave it out"
            worked = any(before <= UNSCORED_SHARE for before in _column(history[:-1], name))
            yield Alarm("unscored", "pause" if worked else "warn", sentence, reward)

"""Alarms over the metrics of a run: what has gone wrong, in a sentence. Pure functions of history.

A history is a list of metrics by name, one per update, oldest first; a metric that is absent is not judged.
The thresholds are starting points (reliability.md 6.2); tests hold each to a curve that fires it and to
healthy ones that do not. What sample grids tell is judged in `flowgrpo.hacking`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

History = Sequence[Mapping[str, float]]

WENT_BACK = "policy/went_back"
"""Metric of the update after which a run went back to an earlier checkpoint: the number of that one."""
LATENT_STD, ENTROPY = "samples/latent_std", "samples/entropy"
SKIPS_IN_A_ROW = 3
SKIPS_IN_100 = 10
DEAD_SHARE = 0.5
DEAD_SHARE_TO_PAUSE = 0.9
DEAD_UPDATES = 5
RATIO_ERROR = 1e-2
RATIO_RANGE = (0.9, 1.1)
CLIP_FRACTION = 0.5
COLLAPSED_SPREAD = 0.1
FAILED_SHARE = 0.05
BASELINE_UPDATES = 20
SPIKES_TO_WARN, SPIKES_TO_PAUSE, SPIKES_IN = 5, 20, 50
KL_TO_WARN, KL_TO_PAUSE = 3.0, 10.0
KL_SMOOTHING = 5
"""Updates whose median stands for the KL around one of them: its noise is no alarm."""
REWARD_FALL = 3.0
"""Usual stds within groups by which a mean reward may fall from one update to the next."""
JUMP_FALL = 1.5
"""Largest recent jumps of the mean by which it may fall: prompts may differ more than images of one."""
REWARD_UPDATES = 10
"""Updates before which no reward has a usual level."""
LATENT_RANGE = (0.5, 2.0)
"""The std of clean latents as a multiple of the base's."""
NOISE_BITS = 8.0
"""Entropy of white noise, in bits a pixel; images half-way there have lost what they showed."""
SLOW_UPDATE = 5.0
PHASES = {"seconds/rollout": "sampling", "seconds/reward": "scoring", "seconds/update": "an update"}


@dataclass(frozen=True)
class Alarm:
    """What a guard has seen.

    Attributes:
        level: `warn` is told; `pause` asks for a person before the run goes on; `back` asks for the last
            checkpoint at half the learning rate, and for a person where that was done before.
        subject: The reward, phase or property that it is about, where it is about one.
        size: How bad it is; an alarm that a person has allowed counts again once it is half as large again.
        age: Updates since weights that did not raise it; 0 where the weights are not to blame.
    """

    name: str
    level: Literal["warn", "pause", "back"]
    sentence: str
    subject: str = ""
    size: float = 1.0
    age: int = 1

    @property
    def topic(self) -> str:
        """What stays the same while the alarm gets better or worse."""
        return f"{self.name}/{self.subject}"

    @property
    def key(self) -> tuple[str, str]:
        """What stays the same while the alarm holds, whatever the numbers in its sentence."""
        return self.topic, self.level


def alarms(history: History, base: Mapping[str, float] | None = None) -> list[Alarm]:
    """Every alarm that the newest update gives rise to.

    Args:
        base: the metrics of the base's own samples.
    """
    if not history:
        return []
    # What a run went back from is no longer true of it.
    recent = since_back(history)
    found: list[Alarm] = []
    for guard in (_skips, _dead_groups, _replay, _clipping, _ratio, _spikes, _fall):
        found.extend(guard(recent))
    for guard in (_spread, _slow, _kl):
        found.extend(guard(history))
    return [*found, *_unscored(history), *_noise(recent, base or {})]


def since_back(history: History) -> History:
    """The part of a history after the run last went back to a checkpoint; all of it where it never did."""
    backs = [index for index, metrics in enumerate(history) if WENT_BACK in metrics]
    return history[backs[-1] + 1 :] if backs else history


def column(history: History, name: str) -> list[float]:
    """One metric, without the updates that lack it."""
    return [metrics[name] for metrics in history if name in metrics]


def _skips(history: History) -> Iterator[Alarm]:
    skipped = column(history, "policy/skipped")
    in_a_row = len(skipped) >= SKIPS_IN_A_ROW and all(skipped[-SKIPS_IN_A_ROW:])
    if in_a_row or sum(skipped[-100:]) >= SKIPS_IN_100:
        many = f"{SKIPS_IN_A_ROW} updates in a row" if in_a_row else f"{SKIPS_IN_100} of 100 updates"
        yield Alarm("skips", "back", f"{many} were not finite: lower the learning rate", age=0)


def _dead_groups(history: History) -> Iterator[Alarm]:
    shares = column(history, "groups/dead_share")[-DEAD_UPDATES:]
    if len(shares) == DEAD_UPDATES and min(shares) > DEAD_SHARE_TO_PAUSE:
        sentence = "the rewards see no difference within groups: there is nothing to learn"
        yield Alarm("dead_groups", "pause", sentence, age=DEAD_UPDATES)
    elif shares and shares[-1] > DEAD_SHARE:
        sentence = f"{shares[-1]:.0%} of the groups show no difference to the rewards"
        yield Alarm("dead_groups", "warn", sentence, size=shares[-1])


def _replay(history: History) -> Iterator[Alarm]:
    errors = column(history, "policy/ratio_max_deviation")
    if errors and not errors[-1] <= RATIO_ERROR:
        sentence = f"the update replayed the sampler with an error of {errors[-1]:.1e}"
        yield Alarm("ratio_error", "warn", sentence)


def _clipping(history: History) -> Iterator[Alarm]:
    fractions = column(history, "policy/clip_fraction")
    if fractions and fractions[-1] > CLIP_FRACTION:
        sentence = f"{fractions[-1]:.0%} of the transitions were clipped: take fewer steps a rollout"
        yield Alarm("clipping", "warn", sentence)


def _ratio(history: History) -> Iterator[Alarm]:
    means = column(history, "policy/ratio_mean")
    if means and not RATIO_RANGE[0] <= means[-1] <= RATIO_RANGE[1]:
        yield Alarm("ratio", "warn", f"the mean ratio is {means[-1]:.2f}: take fewer steps a rollout")


def _unscored(history: History) -> Iterator[Alarm]:
    """A reward that fails pauses the run, whether or not it ever worked: what is learned without it is not
    what was asked for. One that abstains has not failed.
    """
    for name, share in history[-1].items():
        if name.startswith("failed_share/") and share > FAILED_SHARE:
            reward = name.partition("/")[2]
            sentence = f"reward '{reward}' could not score {share:.0%} of the images: mend it or leave it out"
            yield Alarm("unscored", "pause", sentence, reward, size=share, age=0)


def _spikes(history: History) -> Iterator[Alarm]:
    spiked = sum(column(history, "policy/spike")[-SPIKES_IN:])
    if spiked >= SPIKES_TO_PAUSE:
        sentence = f"the gradient spiked in {spiked:.0f} of {SPIKES_IN} updates: lower the learning rate"
        yield Alarm("spikes", "pause", sentence, size=spiked, age=SPIKES_IN)
    elif spiked >= SPIKES_TO_WARN:
        yield Alarm("spikes", "warn", f"the gradient spiked in {spiked:.0f} of the last {SPIKES_IN} updates")


def _kl(history: History) -> Iterator[Alarm]:
    """Against the run's own way half as long ago.

    A policy that drifts steadily has moved n times as far after n updates, and the KL, a squared distance, is
    n^2 times as large; one that wanders at random grows slower. Faster than that, it runs away.
    """
    kls = column(history, "policy/kl")
    half = len(kls) // 2
    now = column(since_back(history), "policy/kl")[-KL_SMOOTHING:]
    if half < BASELINE_UPDATES or len(now) < KL_SMOOTHING:
        return
    before = median(kls[half - KL_SMOOTHING // 2 - 1 : half + KL_SMOOTHING // 2])
    usual = before * (len(kls) / half) ** 2
    if usual > 0 and median(now) > KL_TO_WARN * usual:
        times = median(now) / usual
        level: Literal["warn", "pause"] = "pause" if times > KL_TO_PAUSE else "warn"
        sentence = f"the policy is {times:.0f} times as far from the base as its first half leads to expect"
        yield Alarm("kl", level, sentence, size=times, age=half)


def _fall(history: History) -> Iterator[Alarm]:
    """A reward that falls by several stds at once: the policy broke (algorithms.md, pitfall 16)."""
    for name in sorted(history[-1]) if history else ():
        reward = name.removeprefix("reward/")
        values, stds = column(history, name), column(history, f"reward_std/{reward}")
        if reward == name or len(values) <= REWARD_UPDATES or not stds or not math.isfinite(values[-1]):
            continue
        earlier = values[-BASELINE_UPDATES - 1 : -1]
        jump = max(abs(later - before) for before, later in pairwise(earlier))
        fall, usual = median(earlier[-5:]) - values[-1], median(stds)
        if usual > 0 and fall > max(REWARD_FALL * usual, JUMP_FALL * jump):
            sentence = f"reward '{reward}' fell by {fall / usual:.0f} times its usual spread in one update"
            yield Alarm("fall", "back", sentence, reward, size=fall / usual, age=2)


def _noise(history: History, base: Mapping[str, float]) -> Iterator[Alarm]:
    """Samples that turn into noise, or into nothing (algorithms.md, pitfall 15)."""
    now = history[-1] if history else {}
    if LATENT_STD in now and base.get(LATENT_STD, 0.0) > 0:
        times = now[LATENT_STD] / base[LATENT_STD]
        if not LATENT_RANGE[0] <= times <= LATENT_RANGE[1]:
            sentence = f"the latents are {times:.1f} times as large as the base's: the images fall apart"
            yield Alarm("noise", "back", sentence, "latents", size=max(times, 1 / max(times, 1e-9)), age=2)
    if ENTROPY in now and base.get(ENTROPY, 0.0) > 0:
        bits, usual = now[ENTROPY], base[ENTROPY]
        if bits > (usual + NOISE_BITS) / 2:
            yield Alarm("noise", "back", "the images look like noise beside the base's", "images", bits, 2)
        elif bits < usual / 2:
            yield Alarm("noise", "back", "the images have become flat beside the base's", "images", age=2)


def _slow(history: History) -> Iterator[Alarm]:
    for name, phase in PHASES.items():
        seconds = column(history, name)
        if len(seconds) > BASELINE_UPDATES and seconds[-1] > SLOW_UPDATE * median(seconds[:-1]):
            times = seconds[-1] / median(seconds[:-1])
            sentence = f"{phase} took {times:.0f} times as long as usual; other programs may hold the machine"
            yield Alarm("slow", "warn", sentence, phase)


def _spread(history: History) -> Iterator[Alarm]:
    for name in sorted({name for metrics in history for name in metrics if name.startswith("reward_std/")}):
        spread = [value for value in column(history, name) if math.isfinite(value)]
        usual = median(spread[:BASELINE_UPDATES]) if spread else 0.0
        if len(spread) > BASELINE_UPDATES and spread[-1] < COLLAPSED_SPREAD * usual:
            reward = name.partition("/")[2]
            yield Alarm("spread", "warn", f"reward '{reward}' hardly differs within groups any more", reward)

"""Reward weights from people's choices: which mix of rewards would have chosen as they did.

P(i over j) = sigmoid(sum_k w_k (r_ki - r_kj) / s_k), with s_k the std of reward k within a group: the scale
on which a run combines rewards too (flowgrpo.advantages), so what is found here are the weights of a run. An
L2 prior keeps them small where there is little to go by. Accuracy is measured on prompts that the fit has
not seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from flowgrpo.preferences.bradley_terry import sigmoid
from flowgrpo.preferences.intervals import Interval, ratio_by_cluster
from flowgrpo.preferences.votes import Comparison

MIN_COMPARISONS = 50
"""Decided ones. With fewer the held-out accuracy says next to nothing: its interval is about 0.3 wide."""
MIN_PROMPTS = 8
FOLDS = 10
"""With five, the accuracy of choices made by chance lies outside of its interval 17 times of 100."""
RIDGE = 1.0
"""Precision of the prior of a weight, in (within-group std / nat)^2."""
MAX_MISSING = 0.2
"""Share of comparisons without a value of a reward, above which the reward is left out."""
CLIP = 6.0
"""Within-group stds; the combination clips each image at 3 of its group's mean."""
_SWEEPS = 2000
_TOLERANCE = 1e-7


@dataclass(frozen=True)
class Calibration:
    """Weights that agree with people, and how far to trust them.

    Attributes:
        weights: reward name to weight; absolute values sum to one.
        stds: reward name to the within-group std that its differences were divided by.
        accuracy: share of the choices on prompts that the fit has not seen, with its interval over prompts.
        baseline: the same of the weights in use, on the same choices; None when none of them has scores.
        gain: accuracy - baseline, paired by prompt.
        num_comparisons: decided ones that count, ties apart.
        num_prompts: that they are about.
        left_out: reward name to why it could not take part.
    """

    weights: dict[str, float]
    stds: dict[str, float]
    accuracy: Interval
    baseline: Interval | None
    gain: Interval | None
    num_comparisons: int
    num_prompts: int
    left_out: dict[str, str]


@dataclass(frozen=True)
class _Data:
    """Rows are comparisons: differences in stds, 1 for a choice and 0.5 for a tie, weight, prompt."""

    x: Float[ndarray, "row reward"]
    share: Float[ndarray, " row"]
    weight: Float[ndarray, " row"]
    prompts: list[str]


def calibrate(
    compared: Sequence[Comparison],
    rewards: Mapping[str, Mapping[str, float]],
    stds: Mapping[str, float],
    current: Mapping[str, float],
    *,
    allow_negative: bool = False,
    seed: int = 0,
) -> Calibration:
    """Fits weights to comparisons.

    Args:
        compared: of `flowgrpo.preferences.votes.comparisons`.
        rewards: reward name to image id to value; a missing or NaN value is no value.
        stds: reward name to its std within a group; a reward without one, or with 0, is left out.
        current: weights in use, to compare with.
        allow_negative: whether a reward may count against an image.
        seed: of the folds and the resamples.

    Raises:
        ValueError: too few comparisons or prompts, or no reward goes with the choices; a sentence.
    """
    usable, left_out = _usable(compared, rewards, stds)
    names = list(usable)
    complete = [one for one in compared if not _lacks(one, usable)]
    _refuse_few(complete, names, len(compared))
    data = _data(complete, usable, {name: stds[name] for name in names})
    found = fit_weights(data.x, data.share, data.weight, allow_negative=allow_negative)
    if not np.abs(found).sum() > 0:
        raise ValueError(
            "no reward goes with what people chose, so no weights can be proposed: rate more groups, or "
            "train a preference head, which looks at the images themselves"
        )
    decided = data.share != 0.5
    of_ours = _hits(_held_out(data, allow_negative, seed), data, decided)
    baseline, gain = _beside(of_ours, data, [current.get(name, 0.0) for name in names], seed)
    return Calibration(
        weights=dict(zip(names, (found / np.abs(found).sum()).tolist(), strict=True)),
        stds={name: stds[name] for name in names},
        accuracy=ratio_by_cluster(*of_ours, seed=seed),
        baseline=baseline,
        gain=gain,
        num_comparisons=int(decided.sum()),
        num_prompts=len(set(data.prompts)),
        left_out=left_out,
    )


def _beside(
    of_ours: tuple[Float[ndarray, " prompt"], Float[ndarray, " prompt"]],
    data: _Data,
    current: Sequence[float],
    seed: int,
) -> tuple[Interval | None, Interval | None]:
    """Accuracy of the weights in use on the same comparisons, and how much ours is above it; None without."""
    if not any(current):
        return None, None
    of_theirs = _hits(data.x @ np.array(current), data, data.share != 0.5)
    gain = ratio_by_cluster(of_ours[0] - of_theirs[0], of_ours[1], is_share=False, seed=seed)
    return ratio_by_cluster(*of_theirs, seed=seed), gain


def within_group_stds(
    rewards: Mapping[str, Mapping[str, float]], groups: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Reward name to the median over groups of its population std; a reward that no group has is absent.

    Args:
        rewards: reward name to image id to value.
        groups: image ids of each group.
    """
    stds = {}
    for name, values in rewards.items():
        found = []
        for group in groups:
            known = [values[image] for image in group if math.isfinite(values.get(image, math.nan))]
            found += [float(np.std(known))] if len(known) >= 2 else []
        if found:
            stds[name] = float(np.median(found))
    return stds


def fit_weights(
    x: Float[ndarray, "row reward"],
    share: Float[ndarray, " row"],
    weight: Float[ndarray, " row"],
    *,
    allow_negative: bool,
    ridge: float = RIDGE,
) -> Float[ndarray, " reward"]:
    """The most probable weights of a logistic regression without intercept.

    Coordinate descent on a quadratic bound (the curvature of log(1 + exp) is at most 1/4), so that every step
    lowers the loss and the bound at zero is simply kept.
    """
    w = np.zeros(x.shape[1])
    margin = np.zeros(len(x))
    bound = 0.25 * (weight @ x**2) + ridge
    for _ in range(_SWEEPS):
        moved = 0.0
        for k in range(len(w)):
            slope = float((weight * (sigmoid(margin) - share)) @ x[:, k] + ridge * w[k])
            target = w[k] - slope / bound[k]
            step = (target if allow_negative else max(0.0, target)) - w[k]
            w[k] += step
            margin += step * x[:, k]
            moved = max(moved, abs(step))
        if moved < _TOLERANCE:
            break
    return w


def _usable(
    compared: Sequence[Comparison], rewards: Mapping[str, Mapping[str, float]], stds: Mapping[str, float]
) -> tuple[dict[str, Mapping[str, float]], dict[str, str]]:
    usable: dict[str, Mapping[str, float]] = {}
    left_out: dict[str, str] = {}
    for name, values in rewards.items():
        missing = sum(_lacks(one, {name: values}) for one in compared) / max(1, len(compared))
        if missing > MAX_MISSING:
            left_out[name] = f"{missing:.0%} of the comparisons have no score of it"
        elif not stds.get(name, 0.0) > 0:
            left_out[name] = "it does not differ within a group"
        else:
            usable[name] = values
    return usable, left_out


def _lacks(one: Comparison, rewards: Mapping[str, Mapping[str, float]]) -> bool:
    return not all(
        math.isfinite(values.get(image, math.nan))
        for values in rewards.values()
        for image in (one.winner, one.loser)
    )


def _refuse_few(complete: Sequence[Comparison], names: Sequence[str], num_all: int) -> None:
    if not names:
        raise ValueError("no reward has scores of the images that people judged: wait until they are scored")
    decided = sum(not one.tie for one in complete)
    prompts = len({one.prompt for one in complete if not one.tie})
    if decided < MIN_COMPARISONS or prompts < MIN_PROMPTS:
        unscored = num_all - len(complete)
        beside = f" that {', '.join(names)} all scored ({unscored} more lack a score)" if unscored else ""
        raise ValueError(
            f"calibration needs {MIN_COMPARISONS} comparisons over {MIN_PROMPTS} prompts at least, and there "
            f"are {decided} over {prompts}{beside}: rate more groups (the best of 8 images is 7 comparisons)"
        )


def _data(
    complete: Sequence[Comparison], rewards: Mapping[str, Mapping[str, float]], stds: Mapping[str, float]
) -> _Data:
    differences = [
        [(values[one.winner] - values[one.loser]) / stds[name] for name, values in rewards.items()]
        for one in complete
    ]
    return _Data(
        x=np.clip(np.array(differences, dtype=np.float64), -CLIP, CLIP),
        share=np.array([0.5 if one.tie else 1.0 for one in complete]),
        weight=np.array([one.weight for one in complete]),
        prompts=[one.prompt for one in complete],
    )


def folds(prompts: Sequence[str], seed: int) -> Iterator[Bool[ndarray, " row"]]:
    """Which rows each fold holds out: all rows of a prompt together."""
    names = sorted(set(prompts))
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = {names[place]: number % FOLDS for number, place in enumerate(order)}
    of_rows = np.array([fold_of[prompt] for prompt in prompts])
    for number in range(min(FOLDS, len(names))):
        yield of_rows == number


def _held_out(data: _Data, allow_negative: bool, seed: int) -> Float[ndarray, " row"]:
    margins = np.zeros(len(data.x))
    for out in folds(data.prompts, seed):
        found = fit_weights(data.x[~out], data.share[~out], data.weight[~out], allow_negative=allow_negative)
        margins[out] = data.x[out] @ found
    return margins


def _hits(
    margins: Float[ndarray, " row"], data: _Data, decided: Bool[ndarray, " row"]
) -> tuple[Float[ndarray, " prompt"], Float[ndarray, " prompt"]]:
    """By prompt: the weight of decided comparisons that were foreseen, of all of them. No margin is half."""
    right = np.where(margins > 0, 1.0, np.where(margins < 0, 0.0, 0.5))
    place = {prompt: index for index, prompt in enumerate(sorted(set(data.prompts)))}
    rows = np.array([place[prompt] for prompt in data.prompts])
    weight = data.weight * decided
    of, to = (np.bincount(rows, values, len(place)) for values in (weight * right, weight))
    return of[to > 0], to[to > 0]

"""The preference head: what people like, as a linear function of what is to be seen in an image.

P(i over j) = sigmoid(u_i - u_j), u = w . x, x the image's embedding (Bradley-Terry on features). An embedding
comes in blocks (what it shows, its texture, its colours), and a taste lies in some of them only: each block
has a prior variance of its own, found by the evidence (MacKay, Neural Computation 4, 1992), so that thirty
choices are enough to see that somebody looks at colours. The posterior of w is Laplace's.

A few hundred dimensions and comparisons take a fraction of a second, in float64.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from flowgrpo.preferences.bradley_terry import sigmoid
from flowgrpo.preferences.intervals import Interval, ratio_by_cluster
from flowgrpo.preferences.votes import Comparison

MAX_COMPONENTS = 128
"""Principal components that are kept of a block; the prior hardly reaches what lies beyond."""
USUAL_VARIANCE = 2.0
"""Of a block's share of u before anything is known, in nats^2: choices are then likely, not sure."""
VARIANCE_SPREAD = 1.5
"""Std of the log of a block's variance around that."""
_STEP_SIZES = (4.0, 2.0)
"""Factors by which the search changes a block's variance, coarse first."""
_NEWTON_STEPS = 30
_TOLERANCE = 1e-6
FOLDS = 5


@dataclass(frozen=True)
class Basis:
    """How embeddings become what the head is linear in.

    Attributes:
        mean, scale: of each feature, over the images that were rated; the scale also makes blocks of
            unlike width equals.
        axes: principal components of the scaled features, block by block.
        widths: components of each block.
    """

    mean: Float[ndarray, " feature"]
    scale: Float[ndarray, " feature"]
    axes: Float[ndarray, "feature component"]
    widths: tuple[int, ...]

    def __call__(self, features: Float[ndarray, "image feature"]) -> Float[ndarray, "image component"]:
        """Components of some embeddings."""
        shown: Float[ndarray, "image component"] = ((features - self.mean) / self.scale) @ self.axes
        return shown


@dataclass(frozen=True)
class Head:
    """A taste.

    Attributes:
        weights: the posterior mean of w, in nats per component.
        covariance: and its covariance.
        variances: what the evidence made of each block's prior variance, in nats^2.
        spread: median over groups of the std of u within a group, in nats.
    """

    basis: Basis
    weights: Float[ndarray, " component"]
    covariance: Float[ndarray, "component component"]
    variances: tuple[float, ...]
    spread: float

    def utility(self, features: Float[ndarray, "image feature"]) -> Float[ndarray, " image"]:
        """How well each image is liked, in nats; only differences mean something."""
        liked: Float[ndarray, " image"] = self.basis(features) @ self.weights
        return liked

    @property
    def version(self) -> str:
        """Twelve hex digits that change when utilities would."""
        digest = hashlib.sha256()
        for part in (self.basis.mean, self.basis.scale, self.basis.axes, self.weights):
            digest.update(np.ascontiguousarray(part, dtype=np.float32).tobytes())
        return digest.hexdigest()[:12]


def basis_of(features: Float[ndarray, "image feature"], blocks: Sequence[int]) -> Basis:
    """The basis of some rated images.

    Args:
        blocks: the widths of the embedding's blocks, in order; they sum to its width.
    """
    if sum(blocks) != features.shape[1]:
        raise ValueError(f"expected blocks that sum to {features.shape[1]} features, got {tuple(blocks)}")
    mean = features.mean(0)
    width = np.repeat(np.sqrt(np.asarray(blocks, dtype=np.float64)), blocks)
    scale = np.maximum(features.std(0), 1e-6) * width
    scaled = (features - mean) / scale
    axes, widths, start = [], [], 0
    for size in blocks:
        _, _, rows = np.linalg.svd(scaled[:, start : start + size], full_matrices=False)
        kept = rows[:MAX_COMPONENTS].T
        placed = np.zeros((features.shape[1], kept.shape[1]))
        placed[start : start + size] = kept
        axes.append(placed)
        widths.append(kept.shape[1])
        start += size
    return Basis(mean, scale, np.concatenate(axes, axis=1), tuple(widths))


@dataclass(frozen=True)
class Data:
    """Comparisons in terms of rows of a matrix of images.

    Attributes:
        first, second: rows; `share` of `weight` went to the first.
        prompt: number of each comparison's prompt.
        group: number of each image's group.
    """

    first: Int[ndarray, " comparison"]
    second: Int[ndarray, " comparison"]
    share: Float[ndarray, " comparison"]
    weight: Float[ndarray, " comparison"]
    prompt: Int[ndarray, " comparison"]
    group: Int[ndarray, " image"]

    @property
    def num_pairs(self) -> int:
        """Comparisons that somebody decided."""
        return int((self.share != 0.5).sum())

    def where(self, chosen: ndarray) -> Data:
        """Some of the comparisons; the images stay."""
        return Data(
            self.first[chosen], self.second[chosen], self.share[chosen], self.weight[chosen],
            self.prompt[chosen], self.group,
        )  # fmt: skip


def data_of(comparisons: Sequence[Comparison], row: Mapping[str, int], group: Sequence[str]) -> Data:
    """Comparisons of images that have an embedding; the others are left out.

    Args:
        row: image id to its row.
        group: of each row.
    """
    usable = [one for one in comparisons if one.winner in row and one.loser in row]
    prompts = {text: number for number, text in enumerate(dict.fromkeys(one.prompt for one in usable))}
    groups = {name: number for number, name in enumerate(dict.fromkeys(group))}
    return Data(
        first=np.array([row[one.winner] for one in usable], dtype=np.int64),
        second=np.array([row[one.loser] for one in usable], dtype=np.int64),
        share=np.array([0.5 if one.tie else 1.0 for one in usable]),
        weight=np.array([one.weight for one in usable]),
        prompt=np.array([prompts[one.prompt] for one in usable], dtype=np.int64),
        group=np.array([groups[name] for name in group], dtype=np.int64),
    )


def fit(features: Float[ndarray, "image feature"], blocks: Sequence[int], data: Data) -> Head:
    """The taste behind some comparisons.

    Raises ValueError where there are none, or where blocks and features do not fit.
    """
    if not len(data.first):
        raise ValueError("there are no comparisons to learn a taste from: rate some groups first")
    basis = basis_of(features, blocks)
    return _fitted(basis, basis(features), data)


def _fitted(basis: Basis, shown: Float[ndarray, "image component"], data: Data) -> Head:
    logs = np.full(len(basis.widths), math.log(USUAL_VARIANCE))
    best = _evidence(shown, basis.widths, logs, data)
    for factor in _STEP_SIZES:
        is_better = True
        while is_better:
            is_better = False
            for block in range(len(logs)):
                for step in (math.log(factor), -math.log(factor)):
                    tried = logs.copy()
                    tried[block] += step
                    found = _evidence(shown, basis.widths, tried, data)
                    if found > best + 1e-6:
                        best, logs, is_better = found, tried, True
    root = np.repeat(np.exp(logs / 2), basis.widths)
    whitened, precision = _posterior(shown * root, data)
    weights = whitened * root
    covariance = np.linalg.inv(precision) * root[:, None] * root[None]
    return Head(
        basis,
        weights,
        covariance,
        tuple(float(one) for one in np.exp(logs)),
        _spread(shown @ weights, data.group),
    )


def _evidence(
    shown: Float[ndarray, "image component"],
    widths: Sequence[int],
    logs: Float[ndarray, " block"],
    data: Data,
) -> float:
    """Log evidence of the blocks' prior variances, Laplace's, and log of their own prior."""
    root = np.repeat(np.exp(logs / 2), widths)
    weights, precision = _posterior(shown * root, data)
    _, log_det = np.linalg.slogdet(precision)
    away = (logs - math.log(USUAL_VARIANCE)) / VARIANCE_SPREAD
    fits = -_loss(weights, _differences(shown * root, data), data)
    return fits - 0.5 * float(log_det) - 0.5 * float(away @ away)


def _differences(
    shown: Float[ndarray, "image component"], data: Data
) -> Float[ndarray, "comparison component"]:
    found: Float[ndarray, "comparison component"] = shown[data.first] - shown[data.second]
    return found


def _loss(
    weights: Float[ndarray, " component"], design: Float[ndarray, "comparison component"], data: Data
) -> float:
    margin = design @ weights
    return float(data.weight @ (np.logaddexp(0, margin) - data.share * margin) + 0.5 * weights @ weights)


def _posterior(
    shown: Float[ndarray, "image component"], data: Data
) -> tuple[Float[ndarray, " component"], Float[ndarray, "component component"]]:
    """Mode and precision under a prior of N(0, 1) on every weight; Newton's method on a convex loss."""
    design = _differences(shown, data)
    weights, eye = np.zeros(shown.shape[1]), np.eye(shown.shape[1])
    for _ in range(_NEWTON_STEPS):
        p = sigmoid(design @ weights)
        gradient = design.T @ (data.weight * (p - data.share)) + weights
        precision = (design * (data.weight * p * (1 - p))[:, None]).T @ design + eye
        step = np.linalg.solve(precision, gradient)
        before, size = _loss(weights, design, data), 1.0
        while _loss(weights - size * step, design, data) > before + 1e-12 and size > 1e-6:
            size /= 2  # a full step may overshoot far from the optimum
        weights = weights - size * step
        if np.abs(size * step).max() < _TOLERANCE:
            break
    return weights, precision


def _spread(utility: Float[ndarray, " image"], group: Int[ndarray, " image"]) -> float:
    stds = [utility[group == one].std(ddof=1) for one in np.unique(group) if (group == one).sum() > 1]
    return float(np.median(stds)) if stds else 0.0


def held_out_accuracy(
    features: Float[ndarray, "image feature"], blocks: Sequence[int], data: Data, seed: int = 0
) -> Interval:
    """Share of decided comparisons, by weight, that a head which has not seen their prompts gets right.

    A utility that is equal for both is half right. The interval is over prompts; NaN for fewer than two.
    """
    decided = data.share != 0.5
    num_prompts = int(data.prompt.max()) + 1 if len(data.prompt) else 0
    if num_prompts < 2 or not decided.any():
        return Interval(math.nan, math.nan, math.nan)
    fold = np.random.default_rng(seed).permutation(num_prompts) % min(FOLDS, num_prompts)
    right, total = np.zeros(num_prompts), np.zeros(num_prompts)
    basis = basis_of(features, blocks)
    shown = basis(features)
    for number in range(int(fold.max()) + 1):
        inside = fold[data.prompt] != number
        if not inside.any():
            continue
        utility = shown @ _fitted(basis, shown, data.where(inside)).weights
        asked = data.where(~inside & decided)
        margin = utility[asked.first] - utility[asked.second]
        hit = asked.weight * ((margin > 0) + 0.5 * (margin == 0))
        np.add.at(right, asked.prompt, hit)
        np.add.at(total, asked.prompt, asked.weight)
    return ratio_by_cluster(right, total, seed=seed)


MIN_PAIRS, HALF_PAIRS, ALL_PAIRS = 50, 100, 200
"""Decided comparisons from which on a head speaks at all, with half and with all of its weight."""
STALE_UPDATES = 40
"""Updates without a new vote after which a head is half as loud: what is drawn is no longer what it saw."""


def trust(num_pairs: int, accuracy: float, updates_since: int = 0) -> float:
    """How much of its weight a head has, 0 to 1 (rewards.md 6): by what it saw, and how well it foresees.

    Args:
        num_pairs: decided comparisons behind it.
        accuracy: held out; at a half or below, it has nothing to say.
        updates_since: the policy's updates since the last vote on what it draws.
    """
    if num_pairs < MIN_PAIRS or not accuracy > 0.5:
        return 0.0
    seen = float(np.interp(num_pairs, (MIN_PAIRS, HALF_PAIRS, ALL_PAIRS), (0.25, 0.5, 1.0)))
    fresh = math.exp2(-updates_since / STALE_UPDATES)
    return seen * min(1.0, 2 * (accuracy - 0.5)) * fresh

"""Bradley-Terry strengths of a few items, with a prior that keeps the undefeated finite.

P(i over j) = sigmoid(s_i - s_j) (Bradley and Terry, Biometrika 39, 1952); a tie is half a win for each. The
prior is N(0, 1 / ridge) on every strength, so that the strengths sum to zero. Fitted by Newton's method: the
loss is convex and the items are few.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

_STEPS = 50
_HALVINGS = 20
_TOLERANCE = 1e-8
"""Of the longest Newton step, in nats."""
_CHI2 = 3.841459
"""The 95% quantile of chi-square with one degree of freedom."""
_GRID = np.linspace(-8.0, 8.0, 65)
"""Nats around an estimate in which the ends of its interval are looked for."""


class Held(NamedTuple):
    """`item` is kept `above` nats over `other`, one number for each data set."""

    item: int
    other: int
    above: Float[ndarray, " batch"]


def sigmoid(x: Float[ndarray, "*shape"]) -> Float[ndarray, "*shape"]:
    """1 / (1 + exp(-x)), without overflow."""
    half: Float[ndarray, "*shape"] = 0.5 * (1 + np.tanh(x / 2))
    return half


def fit(
    first: Int[ndarray, " pair"],
    second: Int[ndarray, " pair"],
    share: Float[ndarray, "*batch pair"],
    weight: Float[ndarray, "*batch pair"],
    num_items: int,
    ridge: float,
    held: Held | None = None,
) -> Float[ndarray, "*batch item"]:
    """Strengths in nats; of many data sets about the same pairs at once.

    Args:
        first, second: the items of each comparison, 0 to `num_items` - 1.
        share: 1 where the first won, 0 where it lost, 0.5 for a tie; anything between is a mean of votes.
        weight: how much each comparison counts.
        ridge: precision of the prior; above 0.
        held: a difference that is given, and not fitted.
    """
    x = _design(first, second, num_items)
    s = np.zeros((*share.shape[:-1], num_items))
    free = np.eye(num_items)
    if held is not None:
        s[..., held.item] = held.above
        free[held.item, held.other] = 1
        free = np.delete(free, held.item, axis=1)
    for _ in range(_STEPS):
        gradient = (weight * (sigmoid(s @ x.T) - share)) @ x + ridge * s
        information = (weight * _variance(s @ x.T))[..., None] * x
        curvature = x.T @ information + ridge * np.eye(num_items)
        step = np.linalg.solve(free.T @ curvature @ free, (gradient @ free)[..., None])[..., 0] @ free.T
        before, size = loss(x, share, weight, s, ridge), np.ones_like(step[..., :1])
        for _ in range(_HALVINGS):  # a full Newton step may overshoot far from the optimum
            too_far = loss(x, share, weight, s - size * step, ridge) > before + 1e-12
            if not too_far.any():
                break
            size = np.where(too_far[..., None], size / 2, size)
        s = s - size * step
        if np.abs(size * step).max(initial=0.0) < _TOLERANCE:
            break
    return s


def _variance(margin: Float[ndarray, "*shape"]) -> Float[ndarray, "*shape"]:
    p = sigmoid(margin)
    found: Float[ndarray, "*shape"] = p * (1 - p)
    return found


def loss(
    x: Float[ndarray, "pair item"],
    share: Float[ndarray, "*batch pair"],
    weight: Float[ndarray, "*batch pair"],
    strengths: Float[ndarray, "*batch item"],
    ridge: float,
) -> Float[ndarray, "*batch"]:
    """Negative log posterior in nats, up to a constant. `x` is +1 at the first item and -1 at the second."""
    margin = strengths @ x.T
    of_votes = (weight * (np.logaddexp(0, margin) - share * margin)).sum(-1)
    found: Float[ndarray, "*batch"] = np.asarray(of_votes + 0.5 * ridge * (strengths * strengths).sum(-1))
    return found


def likely(
    first: Int[ndarray, " pair"],
    second: Int[ndarray, " pair"],
    share: Float[ndarray, " pair"],
    weight: Float[ndarray, " pair"],
    strengths: Float[ndarray, " item"],
    ridge: float,
    item: int,
    other: int,
) -> tuple[float, float]:
    """The 95% interval of how far `item` is over `other`, in nats, if all comparisons are independent.

    All differences at which the best fit is less than 1.92 nats worse (profile likelihood). It is lopsided
    where it should be: of one who never lost, little is known upwards and much downwards.
    """
    x = _design(first, second, len(strengths))
    best = strengths[item] - strengths[other]
    above = best + _GRID
    shares, weights = (np.broadcast_to(values, (len(above), len(first))) for values in (share, weight))
    fitted = fit(first, second, shares, weights, len(strengths), ridge, Held(item, other, above))
    worse = loss(x, shares, weights, fitted, ridge) - loss(x, share, weight, strengths, ridge)
    root = np.sign(_GRID) * np.sqrt(2 * np.maximum(worse, 0.0))
    ends = np.interp([-np.sqrt(_CHI2), np.sqrt(_CHI2)], np.maximum.accumulate(root), above)
    return float(ends[0]), float(ends[1])


def _design(
    first: Int[ndarray, " pair"], second: Int[ndarray, " pair"], num_items: int
) -> Float[ndarray, "pair item"]:
    x = np.zeros((len(first), num_items))
    rows = np.arange(len(first))
    x[rows, first] += 1
    x[rows, second] -= 1
    return x

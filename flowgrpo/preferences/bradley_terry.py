"""Bradley-Terry strengths of a few items, with a prior that keeps the undefeated finite.

P(i over j) = sigmoid(s_i - s_j) (Bradley and Terry, Biometrika 39, 1952); a tie is half a win for each. The
prior is N(0, 1 / ridge) on every strength, so that the strengths sum to zero. Fitted by Newton's method: the
loss is convex and the items are few.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

_STEPS = 50
_TOLERANCE = 1e-9
"""Of the longest Newton step, in nats."""


def sigmoid(x: Float[ndarray, "*shape"]) -> Float[ndarray, "*shape"]:
    """1 / (1 + exp(-x)), without overflow."""
    half: Float[ndarray, "*shape"] = 0.5 * (1 + np.tanh(x / 2))
    return half


def fit(
    first: Int[ndarray, " pair"],
    second: Int[ndarray, " pair"],
    share: Float[ndarray, " pair"],
    weight: Float[ndarray, " pair"],
    num_items: int,
    ridge: float,
) -> Float[ndarray, " item"]:
    """Strengths in nats.

    Args:
        first, second: the items of each comparison, 0 to `num_items` - 1.
        share: 1 where the first won, 0 where it lost, 0.5 for a tie; anything between is a mean of votes.
        weight: how much each comparison counts.
        ridge: precision of the prior; above 0.
    """
    s = np.zeros(num_items)
    rows = np.arange(len(first))
    design = np.zeros((len(first), num_items))
    design[rows, first] += 1
    design[rows, second] -= 1

    def loss(s: Float[ndarray, " item"]) -> float:
        margin = design @ s
        return float(weight @ (np.logaddexp(0, margin) - share * margin) + 0.5 * ridge * s @ s)

    for _ in range(_STEPS):
        p = sigmoid(design @ s)
        gradient = design.T @ (weight * (p - share)) + ridge * s
        curvature = (design * (weight * p * (1 - p))[:, None]).T @ design + ridge * np.eye(num_items)
        step = np.linalg.solve(curvature, gradient)
        before, size = loss(s), 1.0
        while loss(s - size * step) > before + 1e-12 and size > 1e-6:
            size /= 2  # a full Newton step may overshoot far from the optimum
        s = s - size * step
        if np.abs(size * step).max(initial=0.0) < _TOLERANCE:
            break
    return s

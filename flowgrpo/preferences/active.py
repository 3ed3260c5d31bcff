"""Which groups to ask about next: those that would teach a preference head the most (rewards.md 6)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from flowgrpo.preferences.bradley_terry import sigmoid


def priority(
    mean: Float[ndarray, " feature"],
    covariance: Float[ndarray, "feature feature"],
    features: Float[ndarray, "image feature"],
) -> float:
    """How much the answer about a group would teach: the most over its pairs of p (1 - p) * variance.

    The head says P(i over j) = sigmoid(m) with m = w·(f_i - f_j) and w ~ N(mean, covariance). p (1 - p) is
    high where it is undecided, the variance of m where that is for want of ratings, not because the two
    images are alike. To first order their product is the share of that variance which one answer takes away,
    as its Fisher information about m is p (1 - p).

    Args:
        mean, covariance: posterior of the head's weights.
        features: of the images of the group; at least one.

    Returns:
        Above or equal to 0; 0 for a single image.
    """
    margin, gram = features @ mean, features @ covariance @ features.T
    p = sigmoid(margin[:, None] - margin[None])
    own = np.diag(gram)
    variance = own[:, None] + own[None] - 2 * gram
    return float((p * (1 - p) * np.maximum(variance, 0.0)).max())


def priorities(
    mean: Float[ndarray, " feature"],
    covariance: Float[ndarray, "feature feature"],
    groups: Mapping[str, Float[ndarray, "image feature"]],
) -> dict[str, float]:
    """Group to its priority; for `storage.judged.set_priorities`."""
    return {group: priority(mean, covariance, features) for group, features in groups.items()}

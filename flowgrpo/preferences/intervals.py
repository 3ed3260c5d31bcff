"""How sure a share or a mean of votes is. Votes on one prompt depend on each other: resample prompts."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

RESAMPLES = 1000
_Z = 1.959964
"""Normal quantile of 97.5%."""


class Interval(NamedTuple):
    """An estimate with its 95% interval."""

    value: float
    low: float
    high: float


def wilson(successes: float | int, n: int) -> Interval:
    """A share of n independent trials (Wilson, JASA 22, 1927); NaN of none."""
    if n <= 0:
        return Interval(math.nan, math.nan, math.nan)
    share, z2 = successes / n, _Z * _Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


def clusters_drawn(num_clusters: int, resamples: int, seed: int) -> Float[ndarray, "resample cluster"]:
    """How often each cluster is in each resample."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(num_clusters, [1 / num_clusters] * num_clusters, resamples).astype(np.float64)


def ratio_by_cluster(
    of: Float[ndarray, " cluster"],
    to: Float[ndarray, " cluster"],
    *,
    trials: int = 0,
    is_share: bool = True,
    seed: int = 0,
) -> Interval:
    """sum(of) / sum(to), its interval from resampled clusters; NaN where `to` is all zero.

    Args:
        trials: of that many independent ones at most is this a share: the interval is no narrower than
            theirs. Without it, clusters that all say the same would have an interval of no width.
        is_share: the ends stay in [0, 1].
    """
    if not to.sum() > 0:
        return Interval(math.nan, math.nan, math.nan)
    value = float(of.sum() / to.sum())
    drawn = clusters_drawn(len(of), RESAMPLES, seed)
    base = drawn @ to
    found = spread(value, (drawn @ of)[base > 0] / base[base > 0], len(of))
    if trials:
        ideal = wilson(value * trials, trials)
        found = Interval(value, min(found.low, ideal.low), max(found.high, ideal.high))
    return Interval(value, max(0.0, found.low), min(1.0, found.high)) if is_share else found


def spread(value: float, resampled: Float[ndarray, " resample"], num_clusters: int) -> Interval:
    """The 95% interval of an estimate from its resamples of `num_clusters` clusters; infinite of one.

    By Student's t and the std of the resamples, as few clusters have too narrow quantiles. That std is
    sqrt(1 - 1/n) of the right one.
    """
    if num_clusters < 2:
        return Interval(value, -math.inf, math.inf)
    error = float(resampled.std()) * math.sqrt(num_clusters / (num_clusters - 1))
    half = student(num_clusters - 1) * error
    return Interval(value, value - half, value + half)


def student(freedom: int) -> float:
    """The 97.5% quantile of Student's t (Hill, CACM 13, 1970: the first terms of its expansion)."""
    z, n = _Z, freedom
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )

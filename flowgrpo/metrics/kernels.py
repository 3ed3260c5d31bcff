"""Distances between what is drawn and what should be drawn, from sums of a kernel: KID and MMD.

Both are the unbiased estimate of the squared maximum mean discrepancy (Gretton et al. 2012, eq. 3), about 0
where the two distributions are one, and small or negative by chance. Only pairs of different prompts enter:
images of one prompt are alike by design, and a prompt drawn twice would meet itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from flowgrpo.metrics.intervals import Column

NUM_PERMUTATIONS: Final = 1_000
_ROWS: Final = 512  # rows of a kernel matrix at once: bounds the memory of 10,000 images
_TESTED: Final = 512  # images on each side of a permutation test, and of a median

Rows = Float64[Tensor, "sample feature"]
Others = Float64[Tensor, "other feature"]
Kernel = Callable[[Rows, Others], Float64[Tensor, "sample other"]]


def standardised(
    features: Float[Tensor, "*sample feature"], reference: Float[Tensor, "other feature"]
) -> Float64[Tensor, "*sample feature"]:
    """Features in the reference's units, so that none drowns the others."""
    mean, std = reference.double().mean(0), reference.double().std(0).clamp_min(1e-6)
    return (features.double() - mean) / std


def cubic(first: Rows, second: Others) -> Float64[Tensor, "sample other"]:
    """The kernel of KID (arXiv 1801.01401): (x y / d + 1)^3."""
    return (first @ second.T / first.shape[1] + 1) ** 3


def gaussian(bandwidth: float) -> Kernel:
    """exp(-|x - y|^2 / (2 h^2))."""

    def kernel(first: Rows, second: Others) -> Float64[Tensor, "sample other"]:
        return torch.exp(-torch.cdist(first, second).square() / (2 * bandwidth**2))

    return kernel


def median_distance(rows: Rows) -> float:
    """The median heuristic: the median distance between two rows, of the first 512."""
    some = rows[:_TESTED]
    return _median(torch.cdist(some, some))


def _median(apart: Float64[Tensor, "sample sample"]) -> float:
    above = torch.ones_like(apart, dtype=torch.bool).triu(1)
    return max(float(apart[above].median()), 1e-12)


class SquaredMMD:
    """The squared MMD to one reference, of many models.

    Args:
        reference: Features of its images; features of models are taken in their units.
        kernel: Of standardised features; by default the Gaussian whose bandwidth is the median distance
            between two reference images, the same for every model and every evaluation.
    """

    def __init__(self, reference: Float[Tensor, "other feature"], kernel: Kernel | None = None) -> None:
        self.reference, self.rows = reference, standardised(reference, reference)
        self.kernel = kernel or gaussian(median_distance(self.rows))
        within, size = _within(self.rows[:, None], self.kernel), len(reference)
        self.fixed = float(within.sum() - within.trace()) / (size * (size - 1))

    def distances(
        self, features: Float[Tensor, "prompt seed feature"], counts: Int64[np.ndarray, "draw prompt"]
    ) -> Float64[np.ndarray, " draw"]:
        """The distance for each draw of the prompts; the reference stays as it is."""
        ours = standardised(features, self.reference)
        within, across = _within(ours, self.kernel), _across(ours, self.rows, self.kernel)
        total, squares = counts.sum(1), (counts**2).sum(1)
        off_diagonal = ((counts @ within) * counts).sum(1) - counts**2 @ within.diagonal()
        pairs = (total**2 - squares).astype(np.float64)
        pairs[pairs == 0] = np.nan  # a resample of one prompt alone has none
        found: Column = off_diagonal / pairs + self.fixed - 2 * (counts @ across) / np.maximum(total, 1)
        return found


def _within(
    rows: Float64[Tensor, "prompt seed feature"], kernel: Kernel
) -> Float64[np.ndarray, "prompt prompt"]:
    """The mean kernel between the images of each two prompts."""
    num_prompts, num_seeds = rows.shape[:2]
    flat = rows.flatten(0, 1)
    at_once = max(1, _ROWS // num_seeds)
    parts = [
        kernel(part.flatten(0, 1), flat).reshape(len(part), num_seeds, num_prompts, num_seeds).mean((1, 3))
        for part in rows.split(at_once)
    ]
    matrix: np.ndarray = torch.cat(parts).numpy()
    return matrix


def _across(
    rows: Float64[Tensor, "prompt seed feature"], theirs: Others, kernel: Kernel
) -> Float64[np.ndarray, " prompt"]:
    at_once = max(1, _ROWS // rows.shape[1])
    parts = [
        kernel(part.flatten(0, 1), theirs).reshape(len(part), -1).mean(1) for part in rows.split(at_once)
    ]
    column: np.ndarray = torch.cat(parts).numpy()
    return column


def permutation_p(
    features: Float[Tensor, "sample feature"], reference: Float[Tensor, "other feature"], seed: int = 0
) -> float:
    """How often chance alone would set two samples of one distribution as far apart: a p-value of the MMD.

    Exact for independent images (Gretton et al. 2012, section 5), so one image a prompt is to be given; the
    bandwidth is the median distance of both together. Of each side the first 512 count.
    """
    pooled = torch.cat([standardised(part[:_TESTED], reference) for part in (features, reference)])
    size, rest = min(len(features), _TESTED), min(len(reference), _TESTED)
    apart = torch.cdist(pooled, pooled)
    matrix = torch.exp(-apart.square() / (2 * _median(apart) ** 2)).numpy()
    matrix[np.diag_indices_from(matrix)] = 0
    rng = np.random.default_rng(seed)
    ours = np.zeros((1 + NUM_PERMUTATIONS, len(pooled)))
    ours[0, :size] = 1
    for row in ours[1:]:
        row[rng.choice(len(pooled), size, replace=False)] = 1
    sums = ours @ matrix
    within, across = (sums * ours).sum(1), (sums * (1 - ours)).sum(1)
    others = matrix.sum() - within - 2 * across
    found = within / (size * (size - 1)) + others / (rest * (rest - 1)) - 2 * across / (size * rest)
    return float((1 + (found[1:] >= found[0]).sum()) / (1 + NUM_PERMUTATIONS))

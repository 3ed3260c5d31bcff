"""The Frechet distance between two sets of features (arXiv 1706.08500): FID, where Inception extracts them.

Its bias falls with the number of images, so figures of different counts must not be compared: a report names
the extractor and the count. For a few hundred images the kernel distance is the honest one.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from flowgrpo.metrics.kernels import standardised

MIN_IMAGES: Final = 5_000
"""On each side, before the distance is shown without being asked for."""
FEW_DIMENSIONS: Final = 64
"""Principal components of the reference that a distance of fewer images than features is taken in."""


def frechet_distance(
    features: Float[Tensor, "sample feature"], reference: Float[Tensor, "other feature"]
) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 sqrt(C1 C2)) of two sets, each standardised by the reference.

    Raises ValueError for fewer than two samples of either.
    """
    if min(len(features), len(reference)) < 2:
        raise ValueError(
            f"expected at least two images on each side, got {len(features)} and {len(reference)}"
        )
    once = np.ones((1, len(features)), dtype=np.int64)
    return float(Frechet(reference).distances(features[:, None], once)[0])


class Frechet:
    """The distance to one reference, of many sets.

    Args:
        num_components: Of the reference's principal components; None takes all features as they are.
    """

    def __init__(self, reference: Float[Tensor, "other feature"], num_components: int | None = None) -> None:
        self.reference = reference
        rows = standardised(reference, reference)
        self.basis = None if num_components is None else _principal(rows, num_components)
        rows = self._projected(rows)
        self.mean, self.covariance = rows.mean(0), torch.cov(rows.T).reshape(rows.shape[1], rows.shape[1])
        # tr sqrt(C1 C2) is the sum of the roots of the eigenvalues of the symmetric S C1 S, with S S = C2.
        values, vectors = torch.linalg.eigh(self.covariance)
        self.root = vectors * values.clamp_min(0).sqrt() @ vectors.T

    def _projected(self, rows: Float64[Tensor, "sample feature"]) -> Float64[Tensor, "sample component"]:
        return rows if self.basis is None else rows @ self.basis

    def distances(
        self, features: Float[Tensor, "prompt seed feature"], counts: Int64[np.ndarray, "draw prompt"]
    ) -> Float64[np.ndarray, " draw"]:
        """The distance for each draw of the prompts."""
        num_seeds = features.shape[1]
        rows = self._projected(standardised(features.flatten(0, 1), self.reference))
        weights = torch.from_numpy(counts).double().repeat_interleave(num_seeds, dim=1)
        return np.array([self._distance(rows, row) for row in weights])

    def _distance(
        self, rows: Float64[Tensor, "sample component"], weights: Float64[Tensor, " sample"]
    ) -> float:
        total = weights.sum()
        mean = weights @ rows / total
        apart = rows - mean
        covariance = (apart * weights[:, None]).T @ apart / (total - 1)
        overlap = torch.linalg.eigvalsh(self.root @ covariance @ self.root).clamp_min(0).sqrt().sum()
        shift = (mean - self.mean).square().sum()
        return float(shift + covariance.trace() + self.covariance.trace() - 2 * overlap)


def _principal(rows: Float64[Tensor, "sample feature"], count: int) -> Float64[Tensor, "feature component"]:
    """The directions in which the rows vary most, as columns."""
    _, vectors = torch.linalg.eigh(torch.cov(rows.T))
    leading: Tensor = vectors[:, -count:]
    return leading

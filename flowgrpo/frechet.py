"""The Frechet distance between two sets of features (arXiv 1706.08500): FID, where Inception extracts them.

Its bias falls with the number of images, so figures of different counts must not be compared: a report names
the extractor and the count. For a few hundred images the kernel distance is the honest one.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


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
    mean, std = reference.double().mean(0), reference.double().std(0).clamp_min(1e-6)
    ours, theirs = ((x.double() - mean) / std for x in (features, reference))
    shift = (ours.mean(0) - theirs.mean(0)).square().sum()
    first, second = (torch.cov(x.T) for x in (ours, theirs))
    # tr sqrt(C1 C2) is the sum of the roots of the eigenvalues of the symmetric S C2 S, with S S = C1.
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    overlap = torch.linalg.eigvalsh(root @ second @ root).clamp_min(0).sqrt().sum()
    return float(shift + first.trace() + second.trace() - 2 * overlap)

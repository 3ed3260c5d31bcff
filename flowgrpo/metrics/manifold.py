"""Precision and recall: how much of what is drawn looks like the reference, and how much of that is drawn.

Kynkaanniemi et al. 2019 (arXiv 1904.06991, eq. 1): a set's manifold is the union of balls around its members,
each as wide as the distance to its k-th neighbour. Below 500 images the balls say more about the count than
about the model, so such counts are refused unless asked for.
"""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

NEIGHBOUR: Final = 3
MIN_IMAGES: Final = 500
_ROWS: Final = 512  # rows of a distance matrix at once

Rows = Float[Tensor, "sample feature"]
Others = Float[Tensor, "other feature"]


def precision(rows: Rows, reference: Others, k: int = NEIGHBOUR) -> Float[Tensor, " sample"]:
    """1 for each image that lies inside the reference's manifold, else 0."""
    return _inside(rows, reference, _radii(reference, k)).float()


def recall(rows: Rows, reference: Others, k: int = NEIGHBOUR) -> Float[Tensor, " other"]:
    """1 for each reference image that lies inside the manifold of what is drawn, else 0."""
    return _inside(reference, rows, _radii(rows, k)).float()


def _radii(rows: Rows, k: int) -> Float[Tensor, " sample"]:
    """Distance of each row to its k-th neighbour among the others.

    Raises ValueError for fewer rows than that needs.
    """
    if len(rows) <= k:
        raise ValueError(f"expected more than {k} images, which have {k} neighbours each, got {len(rows)}")
    # The row itself is nearest, at distance 0.
    parts = [torch.cdist(part, rows).kthvalue(k + 1, dim=1).values for part in rows.split(_ROWS)]
    return torch.cat(parts)


def _inside(
    rows: Rows, centres: Float[Tensor, "centre feature"], radii: Float[Tensor, " centre"]
) -> Bool[Tensor, " sample"]:
    return torch.cat([(torch.cdist(part, centres) <= radii).any(dim=1) for part in rows.split(_ROWS)])

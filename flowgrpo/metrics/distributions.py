"""Metrics of all images of a model together against a reference: KID, MMD, precision, recall and FID."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor

from flowgrpo import frechet
from flowgrpo.frechet import Frechet
from flowgrpo.metrics import manifold
from flowgrpo.metrics.intervals import Drawn, Figure, draws, mean_of, resamples, with_error
from flowgrpo.metrics.kernels import SquaredMMD, cubic, permutation_p, standardised

NAMES: Final = ("fid", "kid", "mmd", "precision", "recall")
_RESAMPLES_OF_FID: Final = {True: 200, False: 40}  # in few dimensions, in all of them: half a second a draw

Features = Float[Tensor, "prompt seed feature"]
Counts = Int64[np.ndarray, "draw prompt"]


@dataclass(frozen=True)
class Reference:
    """What images should look like.

    Attributes:
        features: Of its images.
        extractor: What made them, and those of the models.
        allow_small: Whether FID, precision and recall are shown for fewer images than they are honest for.
    """

    features: Float[Tensor, "other feature"]
    extractor: str
    allow_small: bool = False


@dataclass(frozen=True)
class Found:
    """A metric of one model; fields as of `flowgrpo.metrics.table.Cell`."""

    figure: Figure
    change: Figure | None
    extractor: str
    p: float | None = None
    note: str = ""


def measure(
    name: str, features: Sequence[Features], reference: Reference, counts: Counts
) -> list[Found] | str:
    """One metric of all models, the first without a change; or why it is not shown.

    Args:
        counts: From `flowgrpo.metrics.intervals.draws`.
    """
    return _MEASURES[name](features, reference, counts)


def _kid(features: Sequence[Features], reference: Reference, counts: Counts) -> list[Found]:
    return _of_kernel(SquaredMMD(reference.features, cubic), features, counts, reference.extractor)


def _mmd(features: Sequence[Features], reference: Reference, counts: Counts) -> list[Found]:
    found = _of_kernel(SquaredMMD(reference.features), features, counts, reference.extractor)
    if len(features[0]) < 2:
        return found
    chances = [permutation_p(one[:, 0], reference.features) for one in features]
    note = "p: of one image a prompt, 1,000 permutations"
    return [replace(one, p=p, note=note) for one, p in zip(found, chances, strict=True)]


def _of_kernel(
    measured: SquaredMMD, features: Sequence[Features], counts: Counts, extractor: str
) -> list[Found]:
    found = [Drawn(measured.distances(one, counts), len(one), len(one)) for one in features]
    changes = [None, *(one.minus(found[0]).figure() for one in found[1:])]
    return [Found(one.figure(), change, extractor) for one, change in zip(found, changes, strict=True)]


def _precision(features: Sequence[Features], reference: Reference, counts: Counts) -> list[Found] | str:
    if refused := _too_few_for_balls(features[0], reference):
        return refused
    columns = []
    for one in features:
        inside = manifold.precision(*_rows(one, reference))
        columns.append(inside.unflatten(0, one.shape[:2]).double().mean(1).numpy())
    return _balls(columns, counts, reference, _size(features[0], reference), "")


def _recall(features: Sequence[Features], reference: Reference, counts: Counts) -> list[Found] | str:
    del counts  # of prompts: recall is a mean over reference images
    if refused := _too_few_for_balls(features[0], reference):
        return refused
    columns = [manifold.recall(*_rows(one, reference)).double().numpy() for one in features]
    note = "interval over the reference images"
    size = _size(features[0], reference)
    return _balls(columns, draws(len(reference.features)), reference, size, note)


def _rows(one: Features, reference: Reference) -> tuple[Tensor, Tensor]:
    both = (one.flatten(0, 1), reference.features)
    ours, theirs = (standardised(rows, reference.features).float() for rows in both)
    return ours, theirs


def _balls(
    columns: Sequence[np.ndarray], counts: Counts, reference: Reference, size: int, note: str
) -> list[Found]:
    if size < manifold.MIN_IMAGES:
        small = f"asked for below {manifold.MIN_IMAGES} images: it says more about the count than the model"
        note = "; ".join(part for part in (note, small) if part)
    changes = [None, *(mean_of(column - columns[0], counts).figure() for column in columns[1:])]
    extractor = f"{reference.extractor}-k{manifold.NEIGHBOUR}"
    return [
        Found(mean_of(column, counts).figure(), change, extractor, note=note)
        for column, change in zip(columns, changes, strict=True)
    ]


def _size(one: Features, reference: Reference) -> int:
    """Images on the side that has fewer."""
    return min(one.shape[0] * one.shape[1], len(reference.features))


def _too_few_for_balls(one: Features, reference: Reference) -> str:
    size = _size(one, reference)
    if size <= manifold.NEIGHBOUR:
        return f"{size} images have no {manifold.NEIGHBOUR} neighbours each"
    if size >= manifold.MIN_IMAGES or reference.allow_small:
        return ""
    return (
        f"{size} images are too few: below {manifold.MIN_IMAGES} on either side the balls around them say "
        "more about the count than about the model (allow_small_fid shows it all the same)"
    )


def _fid(features: Sequence[Features], reference: Reference, counts: Counts) -> list[Found] | str:
    del counts  # fewer draws: each takes the roots of a covariance
    num_prompts, _, width = features[0].shape
    size = _size(features[0], reference)
    is_small = size < frechet.MIN_IMAGES or size <= width
    if is_small and not reference.allow_small:
        return (
            f"{size} images are too few for an honest FID, which takes {frechet.MIN_IMAGES:,} on each side "
            f"and more than the {width} features: read KID (allow_small_fid shows it all the same)"
        )
    few = min(frechet.FEW_DIMENSIONS, size // 4) if is_small else None
    if few == 0:
        return f"{size} images have no covariance"
    measured = Frechet(reference.features, few)
    again = resamples(num_prompts, num_resamples=_RESAMPLES_OF_FID[is_small])
    found = [measured.distances(one, again) for one in features]
    extractor = f"{reference.extractor}-pca{few}" if is_small else reference.extractor
    note = f"biased by its few images ({size}): compare it at this count alone" if is_small else ""
    changes = [None, *(with_error(one - found[0], num_prompts) for one in found[1:])]
    return [
        Found(with_error(one, num_prompts), change, extractor, note=note)
        for one, change in zip(found, changes, strict=True)
    ]


_MEASURES: Final[Mapping[str, Callable[[Sequence[Features], Reference, Counts], list[Found] | str]]] = {
    "fid": _fid,
    "kid": _kid,
    "mmd": _mmd,
    "precision": _precision,
    "recall": _recall,
}

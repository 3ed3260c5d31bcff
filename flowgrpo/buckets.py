"""Aspect-ratio buckets: images of many shapes in batches of one shape each, with as little cut off as can be.

The habit is NovelAI's (2022) and SDXL's (arXiv 2307.01952, section 2.3 and appendix I): sizes of about the
same area, each image in the one whose log aspect ratio is nearest. What SDXL is told of the cut is
computed here too. Sizes are (width, height) in pixels, save where SDXL wants (height, width). No torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Bucket = tuple[int, int]
"""(width, height), pixels."""


@dataclass(frozen=True)
class MicroConditioning:
    """What SDXL is told of an image (arXiv 2307.01952, section 2.2), in pixels, the vertical number first.

    Attributes:
        original_size: Height and width before anything was done.
        crop_top_left: What is cut off at the top and at the left, after the resize.
        target_size: Height and width of the bucket.
    """

    original_size: tuple[int, int]
    crop_top_left: tuple[int, int]
    target_size: tuple[int, int]

    @property
    def time_ids(self) -> tuple[int, ...]:
        """The six numbers in the order of diffusers' `add_time_ids`."""
        return (*self.original_size, *self.crop_top_left, *self.target_size)


def make_buckets(area: int, step: int, max_ratio: float = 2.0) -> list[Bucket]:
    """Every width with the greatest height that fits, and every height with the greatest width; by width.

    Sides are multiples of `step`, their product is at most `area`, and the longer one is at most `max_ratio`
    times the shorter. The largest square is always among them. Raises ValueError where nothing fits.
    """
    if step < 1 or area < step * step:
        raise ValueError(
            f"no bucket of sides in multiples of {step} has at most {area} pixels: "
            "expected a step of at least 1 and an area of at least step * step"
        )
    if not max_ratio >= 1:
        raise ValueError(f"max_ratio is the longer side over the shorter, so at least 1; got {max_ratio}")
    square = math.isqrt(area) // step * step
    found = {(square, square)}
    for side in range(step, area // step + 1, step):
        other = area // side // step * step
        if max(side, other) <= max_ratio * min(side, other):
            found |= {(side, other), (other, side)}
    return sorted(found)


def bucket_of(width: int, height: int, buckets: Sequence[Bucket]) -> Bucket:
    """The bucket of the nearest log aspect ratio; of equally near ones the largest, then the first."""
    ratio = math.log(width) - math.log(height)

    def badness(bucket: Bucket) -> tuple[float, int]:
        return abs(math.log(bucket[0]) - math.log(bucket[1]) - ratio), -bucket[0] * bucket[1]

    return min(buckets, key=badness)


def assign(sizes: Iterable[tuple[int, int]], buckets: Sequence[Bucket]) -> dict[Bucket, list[int]]:
    """Positions in `sizes` by bucket, ascending; buckets in their order, those without an image left out."""
    members: dict[Bucket, list[int]] = {bucket: [] for bucket in buckets}
    for position, (width, height) in enumerate(sizes):
        members[bucket_of(width, height, buckets)].append(position)
    return {bucket: positions for bucket, positions in members.items() if positions}


def crop_box(width: int, height: int, bucket: Bucket) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of the largest centred part of an image that has the bucket's shape.

    In pixels of the image and in fractions of them: cutting before the resize is exact, after it is not.
    """
    crop_width = min(width, height * bucket[0] / bucket[1])
    crop_height = min(height, width * bucket[1] / bucket[0])
    left, top = (width - crop_width) / 2, (height - crop_height) / 2
    return left, top, width - left, height - top


def micro_conditioning(width: int, height: int, bucket: Bucket) -> MicroConditioning:
    """What SDXL is told of an image of this size that is resized and cut to the bucket by `crop_box`."""
    left, top, right, bottom = crop_box(width, height, bucket)
    cut_left = round(left * bucket[0] / (right - left))
    cut_top = round(top * bucket[1] / (bottom - top))
    return MicroConditioning((height, width), (cut_top, cut_left), (bucket[1], bucket[0]))

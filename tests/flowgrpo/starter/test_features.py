"""The features that distances and quality read."""

from __future__ import annotations

import torch
from torch import Tensor

from flowgrpo.live import counted
from flowgrpo.starter.features import taps_of


def _images(count: int, side: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def _read(count: int, side: int) -> tuple[int, int]:
    """Bytes at the peak, and bytes that are kept."""
    images = _images(count, side)
    with counted([images]) as (live, _):
        taps = taps_of(images, smooth=True)
    return live.peak, sum(tap.numel() * tap.element_size() for tap in taps)


def test_reading_more_large_images_takes_no_more_than_what_is_kept_of_them() -> None:
    taps_of(_images(1, 64), smooth=True)  # the weights are loaded once
    (some, kept), (twice, _) = _read(8, 512), _read(16, 512)
    assert twice - some < 2.5 * kept < some  # kept in parts, then as a whole


def test_images_have_the_same_features_alone_and_among_others() -> None:
    images = _images(3, 1024)
    together = taps_of(images, smooth=False)
    alone = taps_of(images[2:], smooth=False)
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one[2:], other, rtol=1e-4, atol=1e-4)

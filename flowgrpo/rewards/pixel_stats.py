"""`pixel_stats`: what exploited rewards drive off first: a monitor (rewards.md 1.6); nothing learns from it.

Burnt colours and clipping go with preference models, grids and grain with too little pull to the base; they
raise total variation and the bytes of a JPEG.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Final

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from flowgrpo.looks import looks
from flowgrpo.rewards.base import RewardSpec, ScoreBatch, ScoreResult, scored
from flowgrpo.rewards.cards import CARDS
from flowgrpo.rewards.fetch import Options

_JPEG_QUALITY: Final = 90


class PixelStats:
    """The value is the mean saturation; the details are all statistics."""

    def __init__(self, card: RewardSpec = CARDS["pixel_stats"]) -> None:
        self.spec = replace(card, version="1")

    def score(self, batch: ScoreBatch) -> ScoreResult:
        """Of every image; the prompt plays no part."""
        details = statistics(batch.images.cpu())
        return scored(details["saturation"], details)


def statistics(images: UInt8[Tensor, "sample 3 height width"]) -> dict[str, Float[Tensor, " sample"]]:
    """`looks`, and: clipped, the share of channels at 0 or 255; total variation, the mean absolute difference
    of neighbours (0 to 1); jpeg bits, bits a pixel of a JPEG of quality 90.
    """
    unit = images.float() / 255
    across, down = unit.diff(dim=3).abs(), unit.diff(dim=2).abs()
    return looks(images) | {
        "clipped": ((images == 0) | (images == 255)).float().flatten(1).mean(1),
        "total variation": (across.flatten(1).mean(1) + down.flatten(1).mean(1)) / 2,
        "jpeg bits": torch.tensor([_jpeg_bits(image) for image in images]),
    }


def _jpeg_bits(image: Tensor) -> float:
    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return 8 * buffer.tell() / (image.shape[1] * image.shape[2])


def load(card: RewardSpec, option: str, options: Options) -> PixelStats:
    """For the registry."""
    return PixelStats(card)

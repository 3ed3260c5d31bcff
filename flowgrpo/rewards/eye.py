"""What a preference head sees of an image: four blocks of frozen features, each of another kind.

    shown    the embedding of a CLIP: what it is
    texture  means and stds of EfficientNet-Lite0's channels: how it is drawn
    looks    saturation, contrast, sharpness
    palette  mean colours of 4 x 4 fields: light and colour, and where

A taste may lie in any of them; `flowgrpo.preferences.head` finds out in which.
"""

from __future__ import annotations

from functools import cached_property
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from flowgrpo.looks import looks
from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.clip_encoder import ClipEncoder
from flowgrpo.rewards.encoders import taps
from flowgrpo.starter.features import statistics

FIELDS: Final = 4
"""Fields of the palette along each side."""
_VERSION: Final = "eye1"


class Eye:
    """Embeds images for preference heads.

    Attributes:
        name: of what it computes; embeddings of two names are never mixed.
    """

    def __init__(self, clip: ClipEncoder, device: str = "cpu") -> None:
        self.clip, self.device = clip, device
        self.name = f"{_VERSION} {clip.version}"

    names: Final = ("shown", "texture", "looks", "palette")
    """Of the blocks."""

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """Numbers in each block."""
        blank = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
        return tuple(block.shape[1] for block in self.blocks(ScoreBatch(blank, [""], [0])))

    def blocks(self, batch: ScoreBatch) -> list[Float[Tensor, "sample feature"]]:
        """The blocks, on the CPU in float32; networks are shared with the other rewards of the batch."""
        unit = batch.images.float().div(255)
        return [
            self.clip.embeddings(batch).float().cpu(),
            statistics(taps(batch, smooth=False, device=self.device)).float().cpu(),
            torch.stack([values.cpu() for values in looks(batch.images).values()], dim=1),
            F.adaptive_avg_pool2d(unit, FIELDS).flatten(1).cpu(),
        ]

    def see(self, batch: ScoreBatch) -> tuple[Float[ndarray, "sample feature"], tuple[int, ...]]:
        """All blocks side by side in float64, and their widths."""
        blocks = self.blocks(batch)
        return torch.cat(blocks, dim=1).double().numpy().astype(np.float64), tuple(b.shape[1] for b in blocks)

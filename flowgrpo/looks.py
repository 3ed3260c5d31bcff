"""How images look as a whole: saturation, contrast and sharpness, which hacked rewards drive off.

A reward that is exploited often shows first in these: colours burn, contrast climbs, texture sharpens to
grain. They say nothing of quality; a guard compares them with the base's.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""


def entropy(images: UInt8[Tensor, "sample 3 height width"]) -> Float[Tensor, " sample"]:
    """Bits a pixel that its difference in brightness from the pixel to its left takes.

    About 2 to 5 for pictures, 0 for one colour, about 8 for strong noise.
    """
    luma = (images.float() * torch.tensor(LUMA).view(1, 3, 1, 1).to(images.device)).sum(1).round().long()
    steps = (luma[:, :, 1:] - luma[:, :, :-1]).flatten(1) + 255
    counts = torch.zeros(len(images), 511).scatter_add_(1, steps.cpu(), torch.ones(steps.shape))
    shares = counts / counts.sum(1, keepdim=True)
    return -torch.xlogy(shares, shares).sum(1) / math.log(2)


def looks(images: UInt8[Tensor, "sample 3 height width"]) -> dict[str, Float[Tensor, " sample"]]:
    """Name to one number an image, all of pixels in [0, 1].

    saturation: mean of the largest minus the smallest channel. contrast: std of brightness. sharpness: mean
    absolute difference of a pixel's brightness from its four neighbours' mean.
    """
    pixels = images.float() / 255
    luma = (pixels * torch.tensor(LUMA).view(1, 3, 1, 1).to(pixels)).sum(1)
    inner = luma[:, 1:-1, 1:-1]
    around = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
    return {
        "saturation": (pixels.amax(1) - pixels.amin(1)).flatten(1).mean(1),
        "contrast": luma.flatten(1).std(1),
        "sharpness": (inner - around / 4).abs().flatten(1).mean(1),
    }

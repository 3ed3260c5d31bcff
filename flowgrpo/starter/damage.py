"""Graded damage to images: what a weak or over-tuned generator does to a drawing, in known amounts.

Every function takes images in [0, 1], `(sample, 3, height, width)`, a severity in [0, 1] per sample and a
generator, and returns images of the same shape in [0, 1]; severity 0 leaves an image as it is.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Generator, Tensor
from torchvision.transforms.functional import gaussian_blur

Degradation = Callable[[Tensor, Tensor, Generator], Tensor]


def _columns(severity: Tensor) -> Tensor:
    return severity[:, None, None, None]


def blur(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """Gaussian blur with a sigma of up to 2 pixels."""
    sigmas = (2.0 * severity).clamp_min(0.01).tolist()
    return torch.cat(
        [gaussian_blur(image[None], [9, 9], [s, s]) for image, s in zip(images, sigmas, strict=True)]
    )


def noise(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """White noise with a standard deviation of up to a quarter of the range."""
    white = torch.randn(images.shape, generator=generator)
    return (images + 0.25 * _columns(severity) * white).clamp(0, 1)


def jpeg(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """JPEG blocks, from quality 75 down to 5."""
    rows = zip(images, severity.tolist(), strict=True)
    return torch.stack([_compressed(image, s) if s > 0 else image for image, s in rows])


def _compressed(image: Tensor, severity: float) -> Tensor:
    buffer = io.BytesIO()
    pixels = image.mul(255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=round(75 - 70 * severity))
    decoded = np.asarray(Image.open(buffer).convert("RGB"), dtype=np.float32)
    return torch.from_numpy(decoded / 255).permute(2, 0, 1)


def ghost(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """Another portrait shines through, up to one half: what an average of two modes looks like."""
    others = images.roll(
        1 + int(torch.randint(len(images), (), generator=generator)) % max(1, len(images) - 1), 0
    )
    return images.lerp(others, 0.5 * _columns(severity))


def warp(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """Smooth displacement by up to some 7 pixels of 64: melted faces."""
    size = (images.shape[2], images.shape[3])
    knots = 0.22 * _columns(severity) * torch.randn(len(images), 2, 6, 6, generator=generator)
    shift = F.interpolate(knots, size, mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    rows, columns = (torch.linspace(-1, 1, length) for length in size)
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], dim=-1)
    return F.grid_sample(images, grid + shift, align_corners=True, padding_mode="border")


def patches(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """Up to eight pairs of quarter-size patches change places: parts where they do not belong."""
    damaged = images.clone()
    for image, times in zip(damaged, (8 * severity).ceil().int().tolist(), strict=True):
        side = image.shape[-1] // 4
        for _ in range(times):
            top, left, top2, left2 = torch.randint(image.shape[-1] - side, (4,), generator=generator).tolist()
            first = image[:, top : top + side, left : left + side].clone()
            image[:, top : top + side, left : left + side] = image[
                :, top2 : top2 + side, left2 : left2 + side
            ]
            image[:, top2 : top2 + side, left2 : left2 + side] = first
    return damaged


def coarse(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """Drawn at down to a quarter of the resolution: ragged lines, the mark of a weak decoder."""
    size = (images.shape[2], images.shape[3])
    drawn = []
    for image, s in zip(images, severity.tolist(), strict=True):
        small = [round(side * (1 - 0.75 * s)) for side in size]
        reduced = F.interpolate(image[None], small, mode="bilinear", antialias=True)
        drawn.append(F.interpolate(reduced, size, mode="bicubic", antialias=True))
    return torch.cat(drawn).clamp(0, 1)


DEGRADATIONS: Mapping[str, Degradation] = {
    "blur": blur, "noise": noise, "jpeg": jpeg, "ghost": ghost,
    "warp": warp, "patches": patches, "coarse": coarse,
}  # fmt: skip


def degrade(images: Tensor, name: str, severity: Tensor, generator: Generator) -> Tensor:
    """8-bit images, damaged: what the network of a reward would really get to see."""
    damaged = DEGRADATIONS[name](images.float().div(255), severity, generator)
    return damaged.mul(255).round().byte()

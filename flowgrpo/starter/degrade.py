"""Ways to spoil an image, with a known severity: what teaches a verifier to say "unclear"."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional as F

Images = Float[Tensor, "sample 3 height width"]


def blur(images: Images, radius: float) -> Images:
    """Gaussian blur; `radius` is the standard deviation in pixels."""
    half = max(1, round(3 * radius))
    x = torch.arange(-half, half + 1, dtype=images.dtype)
    kernel = torch.exp(-(x**2) / (2 * radius**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, -1)
    padded = F.pad(images, (half, half, half, half), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel[..., None, :], groups=3), kernel[..., None], groups=3)


def noise(images: Images, std: float, generator: Generator) -> Images:
    """White Gaussian noise of `std` in units of the [-1, 1] range."""
    return images + std * torch.randn(images.shape, generator=generator)


def ghost(images: Images, others: Images, share: float) -> Images:
    """A double exposure: `share` of another image."""
    return (1 - share) * images + share * others


def shuffle(images: Images, patch: int, generator: Generator) -> Images:
    """The image's patches in random order: the colours stay, the face goes."""
    h, w = images.shape[2:]
    columns = F.unfold(images, patch, stride=patch)
    return F.fold(
        columns[..., torch.randperm(columns.shape[-1], generator=generator)], (h, w), patch, stride=patch
    )


def warp(images: Images, strength: float, generator: Generator) -> Images:
    """A smooth random displacement; `strength` in units of half the image."""
    n, _, h, w = images.shape
    shift = F.interpolate(
        torch.randn(n, 2, 5, 5, generator=generator) * strength,
        size=(h, w),
        mode="bicubic",
        align_corners=True,
    ).permute(0, 2, 3, 1)
    grid = F.affine_grid(torch.eye(2, 3).expand(n, 2, 3), [n, 3, h, w], align_corners=True)
    return F.grid_sample(images, grid + shift, align_corners=True, padding_mode="border")


def jitter(images: Images, generator: Generator) -> Images:
    """Changes that no judgement should depend on: brightness, contrast, two pixels of shift, light noise."""
    n = len(images)
    gain = 1 + 0.1 * torch.randn(n, 1, 1, 1, generator=generator)
    bias = 0.06 * torch.randn(n, 3, 1, 1, generator=generator)
    dx, dy = (int(torch.randint(-2, 3, (), generator=generator)) for _ in range(2))
    moved = F.pad(images, (2, 2, 2, 2), mode="replicate")[..., 2 + dy : 66 + dy, 2 + dx : 66 + dx]
    spread = 0.06 * torch.rand(n, 1, 1, 1, generator=generator)
    return (moved * gain + bias + spread * torch.randn(images.shape, generator=generator)).clamp(-1, 1)

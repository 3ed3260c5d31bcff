"""Images against the image that was meant: perceptual distance, SSIM and PSNR, the paper's paired columns.

A caption leaves a picture many freedoms (pose, which of three smiles), so no sampler can reach the reference
itself, and a change of these numbers says how alike the pictures are, not how good. They are here because the
paper reports them; nothing is decided by them.
"""

from __future__ import annotations

from typing import Final

from jaxtyping import Float, UInt8
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from flowgrpo.rewards.perceptual import distance

MAX_PSNR: Final = 100.0
"""Decibels that two equal images count as in a mean; one channel of one pixel of 64 x 64 off by one is 89."""


def paired(
    images: UInt8[Tensor, "sample 3 height width"],
    references: UInt8[Tensor, "reference 3 height width"],
    device: str = "cpu",
) -> dict[str, Float[Tensor, " sample"]]:
    """Metric to one number per pair: `distance` (lower is better), `ssim` in [-1, 1] and `psnr` in dB.

    Raises ValueError where the two have different shapes.
    """
    if images.shape != references.shape:
        raise ValueError(
            f"expected one reference per image, of its size; got {tuple(images.shape)} and "
            f"{tuple(references.shape)}"
        )

    ours, theirs = (x.float() / 255 for x in (images, references))
    ssim = structural_similarity_index_measure(ours, theirs, data_range=1.0, reduction="none")
    assert isinstance(ssim, Tensor)
    return {
        "distance": distance(images, references, device),
        "ssim": ssim,
        "psnr": peak_signal_noise_ratio(ours, theirs, data_range=1.0, reduction="none", dim=(1, 2, 3)),
    }

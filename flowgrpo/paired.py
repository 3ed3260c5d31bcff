"""Images against the image that was meant: perceptual distance, SSIM and PSNR, the paper's paired columns.

A caption leaves a picture many freedoms (pose, which of three smiles), so no sampler can reach the reference
itself, and a change of these numbers says how alike the pictures are, not how good. They are here because the
paper reports them; nothing is decided by them.
"""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from typing import Final, cast

import lpips
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from flowgrpo.rewards.perceptual import distance

LPIPS_TRUNKS: Final = {
    "alex": "alexnet-owt-7be5be79.pth",
    "vgg": "vgg16-397923af.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}
"""Torchvision's ImageNet weights under the heads that the `lpips` package brings: net to file."""
MAX_PSNR: Final = 100.0
"""Decibels that two equal images count as; one channel of one pixel of 64 x 64 off by one is 89."""
_AT_ONCE: Final = 64


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


def lpips_trunk(net: str = "alex") -> Path:
    """The file of the network under LPIPS, where torch keeps what it has downloaded.

    Raises LookupError when it is not there: an evaluation downloads nothing.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / LPIPS_TRUNKS[net]
    if not path.is_file():
        raise LookupError(
            f"LPIPS ({net}) needs torchvision's {path.name}, which is not in torch's folder of checkpoints; "
            "the embedded perceptual distance is shown under its own name"
        )
    return path


@cache
def load_lpips(net: str = "alex", device: str = "cpu") -> nn.Module:
    """LPIPS 0.1 (arXiv 1801.03924) with its learned heads; LookupError as `lpips_trunk`."""
    trunk = torch.load(lpips_trunk(net), map_location="cpu", weights_only=True)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # the package builds its trunk by torchvision's old names
        network = lpips.LPIPS(net=net, version="0.1", pnet_rand=True, verbose=False)
    slices = cast("dict[str, Tensor]", network.net.state_dict())
    # The package cuts torchvision's `features` into slices that keep the numbers of their layers.
    renamed = {name: trunk[f"features.{name.partition('.')[2]}"] for name in slices}
    network.net.load_state_dict(renamed)
    return cast(nn.Module, network.to(device).eval().requires_grad_(False))


@torch.no_grad()
def lpips_distance(
    first: UInt8[Tensor, "sample 3 height width"],
    second: UInt8[Tensor, "sample 3 height width"],
    net: str = "alex",
    device: str = "cpu",
) -> Float[Tensor, " sample"]:
    """LPIPS of each pair, at least 0; 0 for equal images. LookupError as `lpips_trunk`."""
    network = load_lpips(net, device)
    pairs = zip(first.split(_AT_ONCE), second.split(_AT_ONCE), strict=True)
    parts = [
        network(one.to(device).float() / 255, two.to(device).float() / 255, normalize=True).flatten().cpu()
        for one, two in pairs
    ]
    return torch.cat(parts)

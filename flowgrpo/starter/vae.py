"""Stage 1 of the build: the autoencoder, a diffusers `AutoencoderKL` from 64x64x3 to 16x16x8."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Generator, Tensor, nn

from flowgrpo.starter.dataset import Portraits
from flowgrpo.starter.training import Plan, Progress, fit

BATCH = 16
KL_WEIGHT = 5e-4
"""Per latent element: enough to keep the latents near unit scale, too little to blur."""


def build() -> AutoencoderKL:
    """A new autoencoder: 8 latent channels, since 4 lose the colours of small parts."""
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(24, 48, 96),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=64,
        force_upcast=False,
    )
    return vae.to(memory_format=torch.channels_last)


def edges(images: Tensor) -> tuple[Tensor, Tensor]:
    """Horizontal and vertical differences: ink lines are what a viewer sees first."""
    return images[..., 1:] - images[..., :-1], images[..., 1:, :] - images[..., :-1, :]


def train(vae: AutoencoderKL, data: Portraits, plan: Plan, state_path: Path) -> Iterator[Progress]:
    """Minimises L1 + L1 of edges + squared error + a light KL."""

    def loss(step: int, generator: Generator) -> dict[str, Tensor]:
        x = data.floats(torch.randint(len(data), (BATCH,), generator=generator))
        posterior = vae.encode(x).latent_dist
        y = vae.decode(posterior.sample()).sample
        edge = sum((a - b).abs().mean() for a, b in zip(edges(y), edges(x), strict=True))
        mse = (y - x).pow(2).mean()
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return {
            "l1": (y - x).abs().mean(),
            "edge": torch.as_tensor(edge),
            "mse": 2 * mse,
            "kl": KL_WEIGHT * kl,
            "_psnr": -10 * torch.log10(mse.detach() / 4),
        }

    yield from fit("vae", nn.ModuleDict({"vae": vae}), loss, plan, state_path)


@torch.no_grad()
def encode_all(vae: AutoencoderKL, data: Portraits) -> tuple[Tensor, Tensor]:
    """Posterior means and stds of a split, `(sample, 8, 16, 16)` each, unscaled."""
    posteriors = [vae.encode(data.floats(slice(i, i + 100))).latent_dist for i in range(0, len(data), 100)]
    return torch.cat([p.mean for p in posteriors]), torch.cat([p.std for p in posteriors])


@torch.no_grad()
def psnr(vae: AutoencoderKL, data: Portraits) -> Tensor:
    """Reconstruction PSNR of each image in dB, from the posterior mean, after 8-bit rounding."""
    values = []
    for i in range(0, len(data), 100):
        x = data.floats(slice(i, i + 100))
        y = vae.decode(vae.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
        y = ((y + 1) * 127.5).round() / 127.5 - 1
        values.append(-10 * torch.log10((y - x).pow(2).mean((1, 2, 3)) / 4))
    return torch.cat(values)

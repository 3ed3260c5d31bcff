"""What the build measured, with intervals: the numbers behind every claim about the starter."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.utils import save_image

from flowgrpo.evaluation import kernel_distance
from flowgrpo.starter import vocabulary as v
from flowgrpo.starter.clip_training import swap_accuracy
from flowgrpo.starter.dataset import Portraits, labels_of
from flowgrpo.starter.features import FEATURES, statistics, taps_of
from flowgrpo.starter.pipeline import load
from flowgrpo.starter.portraits import caption, is_held_out, sample_attributes
from flowgrpo.starter.vae import psnr
from flowgrpo.starter.verifier_training import accuracy
from flowgrpo.starter.verifiers import load_verifier, predict

SETTINGS = ((16, 3.0), (8, 3.0), (16, 1.0), (8, 1.0))
"""(steps, guidance) at which the pipeline is judged."""

Figures = dict[str, Any]


def wilson(successes: float, n: int) -> Figures:
    """Share of successes with its 95% Wilson score interval (Wilson 1927)."""
    z, p = 1.96, successes / n
    centre, half = p + z * z / (2 * n), z * ((p * (1 - p) + z * z / (4 * n)) / n) ** 0.5
    scale = 1 + z * z / n
    return {
        "share": round(p, 4),
        "low": round((centre - half) / scale, 4),
        "high": round((centre + half) / scale, 4),
        "n": n,
    }


def per_slot(right: dict[str, Tensor]) -> Figures:
    """Slot name -> share with interval, and "all" over every answer."""
    known = {name: x[~x.isnan()] for name, x in right.items()}
    figures = {name: wilson(x.sum().item(), len(x)) for name, x in known.items()}
    everything = torch.cat(list(known.values()))
    return figures | {"all": wilson(everything.sum().item(), len(everything))}


def autoencoder(vae: AutoencoderKL, data: Portraits) -> Figures:
    """Reconstruction PSNR in dB on renders that no training saw."""
    values = psnr(vae, data)
    low, median = np.quantile(values.numpy(), [0.05, 0.5])
    return {
        "psnr_mean": round(values.mean().item(), 2),
        "psnr_5%": round(float(low), 2),
        "psnr_median": round(float(median), 2),
        "n": len(values),
    }


def prompts(count: int, seed: int, held_out: bool = False) -> list[v.Attributes]:
    """Attributes to ask for, from the trained combinations or from the held-out ones."""
    rng = random.Random(f"report/{seed}/{held_out}")
    asked: list[v.Attributes] = []
    while len(asked) < count:
        attributes = sample_attributes(rng)
        if is_held_out(attributes) == held_out:
            asked.append(attributes)
    return asked


def draw(
    pipeline: StableDiffusionXLPipeline, asked: list[v.Attributes], steps: int, guidance: float, seed: int
) -> Tensor:
    """Images in [-1, 1] by plain diffusers, `(sample, 3, 64, 64)`, rounded to 8 bits."""
    images = []
    for start in range(0, len(asked), 32):
        texts = [caption(a) for a in asked[start : start + 32]]
        generator = torch.Generator().manual_seed(seed + start)
        result = pipeline(
            texts, num_inference_steps=steps, guidance_scale=guidance, generator=generator, output_type="pt"
        ).images
        images.append((result * 255).round() / 127.5 - 1)
    return torch.cat(images).float()


def faithfulness(judge: nn.Module, images: Tensor, asked: list[v.Attributes]) -> Figures:
    """How often the judge sees what was asked, per slot."""
    return per_slot(accuracy(judge, images, labels_of(asked)))


def agreement(one: nn.Module, other: nn.Module, images: Tensor) -> Figures:
    """How often two verifiers give the same reading of the same images, per slot."""
    pairs = zip(v.SLOTS, predict(one, images), predict(other, images), strict=True)
    return per_slot({slot.name: (a.argmax(1) == b.argmax(1)).float() for slot, a, b in pairs})


def clip_figures(folder: Path, renders: Portraits, images: Tensor, asked: list[v.Attributes]) -> Figures:
    """Right caption against one swapped attribute, on renders and on generated images."""
    return {
        "renders": per_slot(swap_accuracy(folder, renders.floats(slice(None)), renders.attributes)),
        "generated": per_slot(swap_accuracy(folder, images, asked)),
    }


def kid(one: Tensor, other: Tensor) -> Figures:
    """Kernel inception distance with its 95% bootstrap interval, on features that need no download.

    Args:
        one, other: images in [-1, 1], `(sample, 3, 64, 64)`.
    """
    features = [statistics(taps_of(((x + 1) * 127.5).round().byte(), smooth=True)) for x in (one, other)]
    value, low, high = kernel_distance(features[0], features[1])
    return {
        "value": round(value, 5),
        "low": round(low, 5),
        "high": round(high, 5),
        "n": len(one),
        "features": FEATURES,
    }


def save_sheet(pipeline: StableDiffusionXLPipeline, path: Path, rows: int = 6, columns: int = 8) -> None:
    """A contact sheet to look at: one prompt a row, 16 steps at guidance 3, at twice the size."""
    asked = [a for a in prompts(rows, seed=9) for _ in range(columns)]
    images = draw(pipeline, asked, *SETTINGS[0], seed=40_000_000).add(1).div(2)
    doubled = F.interpolate(images, scale_factor=2, mode="bicubic").clamp(0, 1)
    save_image(doubled, path, nrow=columns, padding=4, pad_value=1.0)


def measure(out: Path, test: Portraits, held_out: Portraits, count: int = 512) -> Figures:
    """All the figures of a finished build folder.

    Args:
        count: images per setting of the pipeline.
    """
    pipe = load(out / "pipeline")
    judge, verifier = load_verifier(out / "judge"), load_verifier(out / "verifier")
    asked, rare = prompts(count, seed=7), prompts(count, seed=8, held_out=True)
    drawn = {setting: draw(pipe, asked, *setting, seed=20_000_000) for setting in SETTINGS}
    best = drawn[SETTINGS[0]]
    save_sheet(pipe, out / "sheet.png")
    reference = test.floats(slice(0, 1000))
    return {
        "autoencoder": autoencoder(pipe.vae, test),
        "parameters": {"unet": sum(p.numel() for p in pipe.unet.parameters())},
        "readers on renders": {
            f"{name}, {split}": per_slot(accuracy(model, data.floats(slice(None)), data.labels))
            for name, model in (("judge", judge), ("verifier", verifier))
            for split, data in (("test", test), ("held-out combinations", held_out))
        },
        "agreement of the readers on generated images": agreement(judge, verifier, best),
        "judge on generated images": {
            f"{steps} steps, guidance {guidance:g}": faithfulness(judge, images, asked)
            for (steps, guidance), images in drawn.items()
        },
        "judge on held-out combinations": faithfulness(
            judge, draw(pipe, rare, *SETTINGS[0], seed=30_000_000), rare
        ),
        "kid against renders": {
            f"{steps} steps, guidance {guidance:g}": kid(images, reference)
            for (steps, guidance), images in drawn.items()
        }
        | {"renders against renders": kid(test.floats(slice(1000, 2000)), reference)},
        "clip": clip_figures(out / "clip", test, best, asked),
    }

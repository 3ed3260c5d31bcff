"""A starter's `weights/` with the real networks, untrained; and portraits from the real renderer."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from flowgrpo.starter import clip_training
from flowgrpo.starter.portraits import caption, render, sample_attributes
from flowgrpo.starter.quality import WEIGHTS_NAME, QualityHead
from flowgrpo.starter.verifiers import Judge, Verifier, save_verifier


def untrained_rewards(folder: Path) -> Path:
    """Writes `verifier/`, `judge/`, `clip/` and `quality/`; returns the folder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_verifier(Verifier(), folder / "verifier")
        save_verifier(Judge(), folder / "judge")
        clip_training.new_folder(folder / "clip")
        network, _ = clip_training.build(folder / "clip")
        head = QualityHead()
    save_file(dict(network.state_dict()), folder / "clip" / "open_clip_model.safetensors")
    (folder / "quality").mkdir()
    save_file(head.state_dict(), folder / "quality" / WEIGHTS_NAME)
    return folder


def portraits(num_prompts: int, num_seeds: int = 1, seed: int = 7) -> tuple[Tensor, list[str]]:
    """Renders, uint8 `(prompt, seed, 3, 64, 64)`, and the prompts' captions."""
    rng = random.Random(seed)
    attributes = [sample_attributes(rng) for _ in range(num_prompts)]
    pixels = [
        torch.from_numpy(render(a, num_seeds * i + k).copy())
        for i, a in enumerate(attributes)
        for k in range(num_seeds)
    ]
    images = torch.stack(pixels).permute(0, 3, 1, 2).unflatten(0, (num_prompts, num_seeds))
    return images.contiguous(), [caption(a) for a in attributes]

"""The weights that ship: small enough, loaded by plain libraries, as good as they are said to be."""

from __future__ import annotations

import random

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from flowgrpo.starter import clip_training, report
from flowgrpo.starter import vocabulary as v
from flowgrpo.starter.dataset import labels_of
from flowgrpo.starter.package import LIMIT_MB, WEIGHTS
from flowgrpo.starter.portraits import render, sample_attributes
from flowgrpo.starter.verifier_training import accuracy
from flowgrpo.starter.verifiers import load_verifier

ASKED = [sample_attributes(random.Random(f"weights/{i}")) for i in range(300)]


@pytest.fixture(scope="module")
def renders() -> torch.Tensor:
    pixels = [torch.from_numpy(render(a, 10**12 + i).copy()) for i, a in enumerate(ASKED)]
    return torch.stack(pixels).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()


def test_everything_that_ships_fits_into_25_mb() -> None:
    assert sum(f.stat().st_size for f in WEIGHTS.rglob("*") if f.is_file()) <= LIMIT_MB * 1e6


def test_nothing_that_ships_names_the_folder_it_was_built_in() -> None:
    assert [f.name for f in WEIGHTS.rglob("*.json") if "_name_or_path" in f.read_text()] == []


@pytest.mark.parametrize("name", ["verifier", "judge"])
def test_the_shipped_readers_read_fresh_renders(name: str, renders: torch.Tensor) -> None:
    right = accuracy(load_verifier(WEIGHTS / name), renders, labels_of(ASKED))
    for slot, shares in right.items():
        assert shares.mean() >= 0.97, slot


def test_the_shipped_clip_prefers_the_right_caption_on_every_slot(renders: torch.Tensor) -> None:
    right = clip_training.swap_accuracy(WEIGHTS / "clip", renders, ASKED)
    for slot in v.SLOTS:
        assert right[slot.name].mean() >= 0.95, slot.name


def test_plain_diffusers_draws_what_was_asked() -> None:
    pipe = StableDiffusionXLPipeline.from_pretrained(WEIGHTS / "pipeline")
    pipe.set_progress_bar_config(disable=True)
    assert sum(p.numel() for p in pipe.unet.parameters()) <= 6_000_000
    figures = report.faithfulness(
        load_verifier(WEIGHTS / "judge"), report.draw(pipe, ASKED[:24], 16, 3.0, seed=0), ASKED[:24]
    )
    assert figures["all"]["share"] >= 0.9

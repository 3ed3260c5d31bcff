"""Weights of the real classes without training, and portraits from the real renderer."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from flowgrpo.starter import clip_training
from flowgrpo.starter.portraits import caption, render, sample_attributes
from flowgrpo.starter.quality import WEIGHTS_NAME, QualityHead
from flowgrpo.starter.verifiers import Verifier, save_verifier


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def renders() -> tuple[Tensor, list[str]]:
    """24 portraits, uint8 `(sample, 3, 64, 64)`, and their captions."""
    rng = random.Random(7)
    attributes = [sample_attributes(rng) for _ in range(24)]
    images = torch.stack(
        [torch.from_numpy(render(a, i).copy()).permute(2, 0, 1) for i, a in enumerate(attributes)]
    )
    return images, [caption(a) for a in attributes]


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A starter's `weights/` with every network untrained."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    save_verifier(Verifier(), folder / "verifier")
    clip_training.new_folder(folder / "clip")
    network, _ = clip_training.build(folder / "clip")
    save_file(dict(network.state_dict()), folder / "clip" / "open_clip_model.safetensors")
    (folder / "quality").mkdir()
    save_file(QualityHead().state_dict(), folder / "quality" / WEIGHTS_NAME)
    return folder

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.tiny_clip import tiny_clip
from tests.untrained import portraits, untrained_rewards


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def renders() -> tuple[Tensor, list[str]]:
    """24 portraits, uint8 `(sample, 3, 64, 64)`, and their captions."""
    images, prompts = portraits(24)
    return images[:, 0], prompts


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A starter's `weights/` with every network untrained."""
    return untrained_rewards(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def tiny_openai(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random CLIP with OpenAI's vocabulary and 77 tokens, in open_clip's layout."""
    return tiny_clip(tmp_path_factory.mktemp("tiny"))

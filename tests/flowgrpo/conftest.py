"""A tiny pipeline per session, a policy per test."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flowgrpo.config import LoraConfig
from flowgrpo.policies import Policy, load_policy
from flowgrpo.rollout import Rollout, SampleSettings, sample_group
from tests.mmdit import BASES
from tests.tiny import tiny_sdxl

torch.set_num_threads(1)

SETTINGS = SampleSettings(num_steps=4, guidance_scale=1.0, width=16, height=16)
"""Small enough that a group costs some hundredths of a second."""


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sdxl(tmp_path_factory.mktemp("tiny") / "pipeline")


@pytest.fixture(scope="session", params=list(BASES))
def mmdit_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of SD3, SD3.5, FLUX.1-dev and FLUX.1-schnell, in turn."""
    return BASES[request.param](tmp_path_factory.mktemp("mmdit") / "folder")


@pytest.fixture(scope="session")
def sd35_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return BASES["sd3.5"](tmp_path_factory.mktemp("mmdit") / "sd35")


@pytest.fixture(scope="session")
def flux_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return BASES["flux dev"](tmp_path_factory.mktemp("mmdit") / "flux")


@pytest.fixture
def policy(tiny_folder: Path) -> Policy:
    return load_policy(tiny_folder)


@pytest.fixture
def tuned(policy: Policy) -> Policy:
    """A policy with an adapter that changes something."""
    policy.attach_lora(LoraConfig(rank=4, alpha=8.0), seed=1)
    perturb(policy)
    return policy


def perturb(policy: Policy, size: float = 0.02, seed: int = 3) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.trainable_parameters().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=size)


def a_group(
    policy: Policy, prompt: str = "red hair", size: int = 6, window: range = range(2), **more: object
) -> Rollout:
    """A group with its transitions kept."""
    settings = {**SETTINGS, "window": window, "micro_batch_size": 4, **more}
    return sample_group(policy, prompt, seeds=range(size), **settings)  # type: ignore[arg-type]


def state_of(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in policy.trainable_parameters().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)

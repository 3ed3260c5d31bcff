"""Numbers that are not finite, however they come about, reach no file of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from flowgrpo.advantages import combine
from flowgrpo.checkpoint import save_checkpoint
from flowgrpo.config import LoraConfig, UpdateConfig
from flowgrpo.learner import Learner
from flowgrpo.manifest import MANIFEST
from flowgrpo.policies import load_policy
from flowgrpo.update import update
from tests.flowgrpo.conftest import a_group

Fault = Callable[[Learner, Random], object]
NAN, INF = float("nan"), float("inf")


def learn(learner: Learner, rewards: Tensor | None = None) -> None:
    group = a_group(learner.policy)
    given = torch.rand(1, 6) if rewards is None else rewards
    for _ in update(learner, [group], combine({"r": given}, {"r": 1.0}, {"r": 0.3})):
        pass


@torch.no_grad()
def spoil(tensors: Mapping[str, Tensor], chance: Random, value: float) -> None:
    """One number of one tensor."""
    tensor = tensors[chance.choice(sorted(tensors))]
    at = torch.unravel_index(torch.tensor(chance.randrange(tensor.numel())), tensor.shape)
    tensor[at] = value  # of a tensor in any layout: a view of one dimension is not always to be had


def with_gradient(learner: Learner, chance: Random, value: float) -> None:
    parameter = learner.parameters[chance.choice(sorted(learner.parameters))]
    hook = parameter.register_hook(lambda gradient: gradient * value)
    try:
        learn(learner)
    finally:
        hook.remove()


def with_rewards(learner: Learner, chance: Random, value: float) -> None:
    rewards = torch.rand(1, 6)
    rewards[0, chance.randrange(6)] = value
    learn(learner, rewards)


REFUSED: dict[str, Fault] = {
    "a weight is NaN": lambda learner, chance: spoil(learner.parameters, chance, NAN),
    "a weight is infinite": lambda learner, chance: spoil(learner.parameters, chance, INF),
    "the average is NaN": lambda learner, chance: spoil(learner.ema, chance, NAN),
    "a moment is NaN": lambda learner, chance: spoil(learner.optimizer_tensors(), chance, NAN),
    "a moment is infinite": lambda learner, chance: spoil(learner.optimizer_tensors(), chance, -INF),
}
SURVIVED: dict[str, Fault] = {
    "a gradient is NaN": lambda learner, chance: with_gradient(learner, chance, NAN),
    "a gradient is infinite": lambda learner, chance: with_gradient(learner, chance, INF),
    "a score is NaN": lambda learner, chance: with_rewards(learner, chance, NAN),
    "a score is infinite": lambda learner, chance: with_rewards(learner, chance, INF),
}
PROGRESS = "a number of the progress is NaN"
KINDS = (*REFUSED, *SURVIVED, PROGRESS)


def try_fault(pipeline: Path, folder: Path, kind: str, seed: int) -> int:
    """Tensors that are not finite in the files after a fault; a checkpoint is there just where it may be."""
    torch.manual_seed(seed)
    policy = load_policy(pipeline)
    policy.attach_lora(LoraConfig(rank=2, alpha=4.0), seed=seed)
    learner, chance = Learner(policy, UpdateConfig()), Random(seed)
    learn(learner)
    progress: dict[str, float] = {"loss": NAN} if kind == PROGRESS else {}
    fault = {**REFUSED, **SURVIVED}.get(kind)
    if fault is not None:
        with suppress(ValueError):
            fault(learner, chance)
    is_refused = kind in REFUSED or kind == PROGRESS
    if is_refused:
        with pytest.raises(ValueError, match=r"not finite|Out of range float"):
            save_checkpoint(folder / "000001", learner, progress)
    else:
        save_checkpoint(folder / "000001", learner, progress)
    assert (folder / "000001" / MANIFEST).exists() is not is_refused, kind
    saved = [tensor for file in folder.rglob("*.safetensors") for tensor in load_file(file).values()]
    assert bool(saved) is not is_refused
    return sum(not bool(tensor.isfinite().all()) for tensor in saved)


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_that_is_not_finite_reaches_no_file(pipeline: Path, tmp_path: Path, kind: str) -> None:
    assert try_fault(pipeline, tmp_path / "checkpoints", kind, seed=0) == 0

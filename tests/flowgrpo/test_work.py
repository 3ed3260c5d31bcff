"""What a run calls for, counted against a real update."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from flowgrpo.advantages import Advantages
from flowgrpo.choices import AWM, DDPO, DPO, NFT, RWR, SFT, Algorithm, FlowGRPO
from flowgrpo.config import LoraConfig, RolloutConfig, RunConfig, UpdateConfig
from flowgrpo.learner import Learner
from flowgrpo.policies import Policy
from flowgrpo.rollout import rollout_settings, sample_group
from flowgrpo.seeds import group_seeds
from flowgrpo.update import update
from flowgrpo.work import Work, work_of

ALGORITHMS: list[Algorithm] = [
    FlowGRPO(), FlowGRPO(unconditional_gradient=True), DDPO(), NFT(), AWM(), RWR(), DPO()
]  # fmt: skip


class Counter:
    """Images through a network, with and without a gradient."""

    def __init__(self, policy: Policy) -> None:
        self.plain = self.learned = 0
        policy.network.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, _: nn.Module, args: tuple[torch.Tensor, ...], kwargs: object) -> None:
        del kwargs
        if torch.is_grad_enabled():
            self.learned += len(args[0])
        else:
            self.plain += len(args[0])


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize(("kl_weight", "reference"), [(0.0, None), (1e-3, None), (1e-3, 3.0)])
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: f"{a.name}")
def test_the_counted_evaluations_are_those_of_a_real_update(
    policy: Policy,
    algorithm: Algorithm,
    kl_weight: float,
    reference: float | None,
    guidance_scale: float,
) -> None:
    reference = None if algorithm.name == "dpo" else reference  # which has none
    told, done = counts(policy, algorithm, guidance_scale, kl_weight=kl_weight, reference_guidance=reference)
    assert told == done


@pytest.mark.parametrize(("kl_steps", "minibatches"), [(1, 1), (1, 3), (9, 1)])
@pytest.mark.parametrize(("guidance_scale", "reference"), [(1.0, None), (1.0, 3.0), (3.0, None)])
@pytest.mark.parametrize("algorithm", [FlowGRPO(), DDPO()], ids=lambda a: f"{a.name}")
def test_held_steps_are_counted_and_minibatches_cost_nothing(
    policy: Policy,
    algorithm: Algorithm,
    guidance_scale: float,
    reference: float | None,
    kl_steps: int,
    minibatches: int,
) -> None:
    told, done = counts(
        policy, algorithm, guidance_scale, kl_weight=1e-3, reference_guidance=reference, kl_steps=kl_steps,
        minibatches=minibatches,
    )  # fmt: skip
    assert told == done


def counts(policy: Policy, algorithm: Algorithm, guidance_scale: float, **settings: Any) -> tuple[Work, Work]:
    """What one update of a run calls for, as it is told and as it was done."""
    policy.attach_lora(LoraConfig(rank=4))
    config = RunConfig(
        prompts=("red hair",), reward_weights={"clip": 1.0}, algorithm=algorithm, num_updates=1,
        rollout=RolloutConfig(
            group_size=4, groups_per_update=2, num_steps=4, window_size=2, guidance_scale=guidance_scale,
            width=16, height=16,
        ),
        update=UpdateConfig(micro_batch_size=4, **settings),
    )  # fmt: skip
    learner, counter = Learner(policy, config.update, algorithm), Counter(policy)
    kl_steps = config.update.kl_steps
    rollouts = [
        sample_group(
            policy,
            "red hair",
            seeds=group_seeds(0, 1, i, 4),
            **rollout_settings(config.rollout, 4, 0, 1, i, keeps_negative=True, kl_steps=kl_steps),
        )
        for i in range(2)
    ]
    values = torch.tensor([[1.0, -1.0, 0.5, -0.5]] * 2)
    whole = torch.ones(2, 4, dtype=torch.bool)
    list(update(learner, rollouts, Advantages(values, whole, torch.zeros(2, dtype=torch.bool))))
    return work_of(config), Work(8, counter.plain, counter.learned)


def test_sft_shows_its_folder_and_samples_nothing() -> None:
    config = RunConfig(
        prompts=("a",), algorithm=SFT(folder="pictures", batch_size=8), num_updates=10,
        update=UpdateConfig(kl_weight=0),
    )  # fmt: skip
    work = work_of(config)
    assert (work.images, work.plain, work.learned) == (80, 0, 80)

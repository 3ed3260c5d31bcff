"""The whole loop on a tiny pipeline, in the method's two stages.

Stage 1 teaches a network of random weights some data by supervised fine-tuning. From there every algorithm
has a fixed budget to make images brighter, which only the loop can do: a network that is no model of anything
has no forward process that could be learned from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from flowgrpo.advantages import calibrate, combine
from flowgrpo.checkpoint import save_checkpoint
from flowgrpo.choices import AWM, DDPO, DPO, NFT, RWR, SFT, Algorithm, FlowGRPO
from flowgrpo.config import AdvantageConfig, LoraConfig, RolloutConfig, UpdateConfig
from flowgrpo.given import all_count, given_rollout
from flowgrpo.learner import Learner
from flowgrpo.policies import Policy, load_policy
from flowgrpo.rollout import Rollout, SampleSettings, rollout_settings, sample_group
from flowgrpo.running import RunningStatistics
from flowgrpo.seeds import group_seeds
from flowgrpo.update import update
from tests.flowgrpo.conftest import same, state_of
from tests.flowgrpo.variants import run
from tests.tiny import tiny_sdxl

SIZE, PROMPT, IMAGES = 16, "red hair", 64
HELD_OUT = SampleSettings(num_steps=4, guidance_scale=1.0, width=SIZE, height=SIZE, micro_batch_size=IMAGES)
ON_TRAJECTORIES = RolloutConfig(group_size=IMAGES, num_steps=4, window_size=2, width=SIZE, height=SIZE)
ON_IMAGES = ON_TRAJECTORIES.model_copy(update={"window": "none"})


@dataclass(frozen=True)
class Stage1:
    """A pipeline's folder, the checkpoint of its fine-tuned network, and the loss on the way."""

    pipeline: Path
    checkpoint: Path
    losses: list[float]


@dataclass(frozen=True)
class Budget:
    """What an algorithm is given: so many rollouts of 64 images, at this rate."""

    algorithm: Algorithm
    rollouts: int = 8
    learning_rate: float = 5e-3
    updates_per_rollout: int = 2
    rollout: RolloutConfig = ON_IMAGES
    std: str = "calibrated"


BUDGETS = {
    "flow_grpo": Budget(FlowGRPO(), rollout=ON_TRAJECTORIES),
    "guard": Budget(FlowGRPO(ratio="guard", step_weight="tau"), rollout=ON_TRAJECTORIES),
    "ddpo": Budget(
        DDPO(),
        rollout=ON_TRAJECTORIES.model_copy(update={"kernel": "ddim", "noise_level": 1.0, "window": "all"}),
        std="running",
    ),
    "nft": Budget(NFT(levels=1, beta=0.3), rollouts=14, learning_rate=1e-2, updates_per_rollout=1),
    "awm": Budget(AWM(levels=1, ema_kl_weight=0.01)),
    "dpo": Budget(DPO(levels=2, beta=100.0), rollouts=14),
    "rwr": Budget(RWR(levels=2, temperature=0.4), rollouts=16, learning_rate=1e-2),
}


@pytest.fixture(scope="module")
def stage1(tmp_path_factory: pytest.TempPathFactory) -> Stage1:
    """One hundred updates of all weights on latents that are one colour and some noise."""
    folder = tmp_path_factory.mktemp("stage1")
    pipeline = tiny_sdxl(folder / "pipeline", prediction_type="v_prediction")
    policy = load_policy(pipeline)
    policy.unfreeze()
    config = UpdateConfig(learning_rate=4e-3, kl_weight=0.0, ema_decay=0.98, micro_batch_size=IMAGES)
    learner = Learner(policy, config, SFT(folder="unused"))
    blank = torch.zeros(IMAGES, 3, SIZE, SIZE)
    template = given_rollout(policy, blank, [PROMPT] * IMAGES, range(IMAGES), micro_batch_size=IMAGES)
    losses: list[float] = []
    for number in range(100):
        generator = torch.Generator().manual_seed(number)
        colour, detail = (torch.randn(IMAGES, 8, side, side, generator=generator) for side in (1, 4))
        seeds = tuple(range(IMAGES * number, IMAGES * (number + 1)))
        batch = replace(template, latents=colour + 0.3 * detail, seeds=seeds)
        (metrics,) = run(learner, [batch], all_count(IMAGES))
        losses.append(metrics.loss)
    save_checkpoint(folder / "checkpoint", learner, {})
    return Stage1(pipeline, folder / "checkpoint", losses)


def brightness(rollout: Rollout) -> torch.Tensor:
    return rollout.images.mean((1, 2, 3))


def on_held_out_seeds(policy: Policy) -> torch.Tensor:
    return brightness(sample_group(policy, PROMPT, seeds=range(1000, 1064), **HELD_OUT))


def start(stage1: Stage1, seed: int) -> Policy:
    policy = load_policy(stage1.pipeline)
    policy.load_adapter(stage1.checkpoint)
    policy.attach_lora(LoraConfig(rank=4, alpha=8.0), seed=seed)
    return policy


def tune(policy: Policy, budget: Budget, seed: int, *, is_constant: bool = False) -> Learner:
    """Spends a budget on brightness, or on a reward that is the same for all images."""
    config = UpdateConfig(
        learning_rate=budget.learning_rate, kl_weight=0.0, ema_decay=0.5, micro_batch_size=IMAGES,
        updates_per_rollout=budget.updates_per_rollout,
    )  # fmt: skip
    learner = Learner(policy, config, budget.algorithm)
    stds = calibrate({"r": on_held_out_seeds(policy)[None]})
    statistics = AdvantageConfig.model_validate({"std": budget.std})
    running = RunningStatistics([PROMPT])
    for number in range(1, 1 + budget.rollouts):
        settings = rollout_settings(budget.rollout, IMAGES, seed, number, 0)
        with learner.behaviour():
            rollout = sample_group(policy, PROMPT, seeds=group_seeds(seed, number, 0, IMAGES), **settings)
        rewards = {"r": torch.full((1, IMAGES), 0.7) if is_constant else brightness(rollout)[None]}
        advantages = combine(
            rewards, {"r": 1.0}, stds, config=statistics, running=running if budget.std == "running" else None
        )
        running = replace(running, buffers=advantages.buffers)
        for _ in update(learner, [rollout], advantages):
            pass
    return learner


def test_supervised_fine_tuning_of_all_weights_lowers_its_loss(stage1: Stage1) -> None:
    first, last = (sum(part) / 10 for part in (stage1.losses[:10], stage1.losses[-10:]))
    assert last < 0.8 * first


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", BUDGETS)
def test_every_algorithm_raises_its_reward_by_more_than_a_pooled_std(
    stage1: Stage1, name: str, seed: int
) -> None:
    """Each seed has an adapter and noise of its own; the held-out seeds are never trained on."""
    policy = start(stage1, seed)
    before = on_held_out_seeds(policy)
    learner = tune(policy, BUDGETS[name], seed)
    with policy.weights(learner.ema):
        after = on_held_out_seeds(policy)
    pooled = ((before.var() + after.var()) / 2).sqrt()
    assert (after - before).mean() > pooled, f"{((after - before).mean() / pooled).item():.2f} stds"


@pytest.mark.parametrize("name", BUDGETS)
def test_a_reward_that_never_differs_moves_nothing(stage1: Stage1, name: str) -> None:
    """Pitfall 9. A prompt's running statistics have no spread either."""
    policy = start(stage1, 0)
    before, images = state_of(policy), on_held_out_seeds(policy)
    learner = tune(policy, replace(BUDGETS[name], rollouts=3), 0, is_constant=True)
    assert learner.update == 0
    assert same(before, state_of(policy))
    assert same(before, learner.ema)
    assert torch.equal(images, on_held_out_seeds(policy))

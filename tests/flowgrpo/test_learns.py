"""The whole loop on a tiny pipeline: a reward that only the loop can raise is raised."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flowgrpo.advantages import calibrate, combine
from flowgrpo.config import LoraConfig, RolloutConfig, UpdateConfig
from flowgrpo.learner import Learner
from flowgrpo.policies import Policy, load_policy
from flowgrpo.rollout import Rollout, SampleSettings, rollout_settings, sample_group
from flowgrpo.seeds import group_seeds
from flowgrpo.update import update
from tests.tiny import tiny_sdxl

UPDATES = 24
ROLLOUT = RolloutConfig(group_size=32, groups_per_update=1, num_steps=4, window_size=2, width=16, height=16)
HELD_OUT = SampleSettings(num_steps=4, guidance_scale=1.0, width=16, height=16, micro_batch_size=64)


def brightness(rollout: Rollout) -> torch.Tensor:
    return rollout.images.mean((1, 2, 3))


def on_held_out_seeds(policy: Policy) -> torch.Tensor:
    return brightness(sample_group(policy, "red hair", seeds=range(1000, 1064), **HELD_OUT))


def gains(folder: Path, seed: int) -> torch.Tensor:
    """What a run of its own adds to the brightness of each held-out image, in the base's std."""
    policy = load_policy(tiny_sdxl(folder, seed=seed))
    policy.attach_lora(LoraConfig(rank=4, alpha=8.0), seed=seed)
    learner = Learner(policy, UpdateConfig(learning_rate=1e-2, kl_weight=0.0))
    before = on_held_out_seeds(policy)
    stds = calibrate({"brightness": before[None]})
    for number in range(UPDATES):
        settings = rollout_settings(ROLLOUT, 32, seed, number, 0)
        rollout = sample_group(policy, "red hair", seeds=group_seeds(seed, number, 0, 32), **settings)
        rewards = {"brightness": brightness(rollout)[None]}
        for _ in update(learner, [rollout], combine(rewards, {"brightness": 1.0}, stds)):
            pass
    with policy.weights(learner.ema):
        after = on_held_out_seeds(policy)
    return (after - before) / before.std()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_images_become_brighter_when_brightness_is_the_reward_whatever_the_seed(
    tmp_path: Path, seed: int
) -> None:
    """Each seed has a network, an adapter and noise of its own; its whole 95% interval lies above zero."""
    gained = gains(tmp_path, seed)
    half = 1.96 * gained.std() / len(gained) ** 0.5
    assert gained.mean() > half, f"{gained.mean():.2f} +- {half:.2f}"

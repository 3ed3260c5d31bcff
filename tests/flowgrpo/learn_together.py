"""One process of several, or one alone: samples four groups, learns from its own, and writes what came out.

python -m tests.flowgrpo.learn_together FOLDER OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from flowgrpo.advantages import Advantages, calibrate, combine
from flowgrpo.config import LoraConfig, RolloutConfig, UpdateConfig
from flowgrpo.learner import Learner
from flowgrpo.policies import Policy, load_policy
from flowgrpo.rollout import Rollout, rollout_settings, sample_group
from flowgrpo.seeds import group_seeds
from flowgrpo.update import UpdateMetrics, update
from flowgrpo.world import World

NUM_GROUPS = 4
PROMPTS = ("red hair", "blue hair", "long hair", "buns")


def draw(policy: Policy, config: RolloutConfig, number: int, group: int) -> Rollout:
    seeds = group_seeds(0, number, group, 4)
    return sample_group(policy, PROMPTS[group], seeds=seeds, **rollout_settings(config, 4, 0, number, group))


def main(folder: Path, out: Path) -> None:
    torch.set_num_threads(1)
    world = World.join()
    policy = load_policy(folder)
    policy.attach_lora(LoraConfig(rank=4), seed=0)
    learner = Learner(policy, UpdateConfig(learning_rate=1e-3), world=world)
    config = RolloutConfig(group_size=4, num_steps=4, window_size=2, width=16, height=16)
    found: dict[str, torch.Tensor] = {}
    for number in (1, 2):
        own = world.mine(NUM_GROUPS)
        rollouts = [draw(policy, config, number, i) for i in own]
        brightness = torch.stack([r.images.flatten(1).mean(1) for r in rollouts])
        rewards = world.gather_groups({"brightness": brightness}, NUM_GROUPS)
        whole = combine(rewards, {"brightness": 1.0}, calibrate(rewards))
        part = Advantages(whole.values[own], whole.is_counted[own], whole.dead_groups[own])
        (metrics,) = [x for x in update(learner, rollouts, part) if isinstance(x, UpdateMetrics)]
        found |= {f"latents {number} {i}": r.latents for i, r in zip(own, rollouts, strict=True)}
        found[f"norm {number}"] = torch.tensor([metrics.grad_norm, metrics.loss, metrics.num_samples])
    found |= {name: parameter.detach().contiguous() for name, parameter in learner.parameters.items()}
    save_file(found, out / f"{world.rank}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

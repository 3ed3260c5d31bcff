"""A run in a process of its own, with arguments PIPELINE CHECKPOINTS UPDATES.

Goes on from the newest checkpoint. Prints the SHA-256 of adapter, average and optimiser at the end.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import torch

from flowgrpo.advantages import combine
from flowgrpo.checkpoint import load_checkpoint, newest_valid, save_checkpoint
from flowgrpo.config import LoraConfig, RolloutConfig, UpdateConfig
from flowgrpo.learner import Learner
from flowgrpo.policies import load_policy
from flowgrpo.rollout import rollout_settings, sample_group
from flowgrpo.seeds import group_seeds
from flowgrpo.update import update

ROLLOUT = RolloutConfig(group_size=4, groups_per_update=2, num_steps=3, window_size=1, width=16, height=16)


def train(pipeline: Path, checkpoints: Path, updates: int) -> str:
    policy = load_policy(pipeline)
    policy.attach_lora(LoraConfig(rank=2, alpha=4.0), seed=0)
    learner = Learner(policy, UpdateConfig())
    newest, warnings = newest_valid(checkpoints)
    for warning in warnings:
        sys.stderr.write(f"{warning}\n")
    first = load_checkpoint(newest, learner)["update"] if newest else 0
    for number in range(first, first + updates):
        rollouts = [
            sample_group(
                policy,
                prompt,
                seeds=group_seeds(0, number, group, 4),
                **rollout_settings(ROLLOUT, 4, 0, number, group),
            )
            for group, prompt in enumerate(("red hair", "blue hair"))
        ]
        brightness = torch.stack([rollout.images.mean((1, 2, 3)) for rollout in rollouts])
        for _ in update(learner, rollouts, combine({"r": brightness}, {"r": 1.0}, {"r": 0.01})):
            pass
        save_checkpoint(checkpoints / f"{number + 1:06d}", learner, {"update": number + 1})
    return digest(learner)


def digest(learner: Learner) -> str:
    total = hashlib.sha256()
    for tensors in (learner.parameters, learner.ema, learner.optimizer_tensors()):
        for name, tensor in sorted(tensors.items()):
            total.update(name.encode() + tensor.detach().contiguous().numpy().tobytes())
    return total.hexdigest()


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.stdout.write(train(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))

"""One process of several, or one alone: samples four groups, learns from its own, and writes what came out.

python -m tests.flowgrpo.learn_together FOLDER OUT [dead] [dpo] [guided] [recompute] [uneven]

In a sharded world the base is sharded, and the main process draws a picture while the other one waits.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from flowgrpo.advantages import Advantages, calibrate, combine
from flowgrpo.choices import DPO, FlowGRPO
from flowgrpo.config import LoraConfig, RolloutConfig, UpdateConfig
from flowgrpo.learner import Learner
from flowgrpo.policies import Policy, load_policy
from flowgrpo.rollout import Rollout, rollout_settings, sample_group
from flowgrpo.seeds import group_seeds
from flowgrpo.sharding import shard
from flowgrpo.update import UpdateMetrics, update
from flowgrpo.world import World, leave

PROMPTS = ("red hair", "blue hair", "long hair", "buns")


def draw(policy: Policy, config: RolloutConfig, number: int, group: int) -> Rollout:
    seeds = group_seeds(0, number, group, 4)
    return sample_group(policy, PROMPTS[group], seeds=seeds, **rollout_settings(config, 4, 0, number, group))


def held(policy: Policy) -> int:
    """Bytes of the base's network that are here."""
    frozen = [p for p in policy.network.parameters() if not p.requires_grad]
    parts = [p.to_local() if isinstance(p, DTensor) else p for p in frozen]
    return sum(part.numel() * part.element_size() for part in parts)


def main(folder: Path, out: Path, *kinds: str) -> None:
    torch.set_num_threads(1)
    world = World.join()
    policy = load_policy(folder)
    policy.attach_lora(LoraConfig(rank=4), seed=0)
    whole = held(policy)
    if world.mesh is not None:
        shard(policy, world, torch.device("cpu"))
    found = {f"held {world.rank}": torch.tensor(held(policy) / whole)}
    settings = UpdateConfig(
        learning_rate=1e-3,
        gradient_checkpointing="recompute" in kinds,
        kl_weight=0.1 if "guided" in kinds else 0,
    )
    learner = Learner(policy, settings, DPO(levels=2) if "dpo" in kinds else FlowGRPO(), world)
    guidance = 2.0 if "guided" in kinds else 1.0
    config = RolloutConfig(
        group_size=4, num_steps=4, window_size=2, width=16, height=16, guidance_scale=guidance
    )
    num_groups = 3 if "uneven" in kinds else 4
    for number in (1, 2):
        own = world.mine(num_groups)
        rollouts = [draw(policy, config, number, i) for i in own]
        brightness = torch.stack([r.images.flatten(1).mean(1) for r in rollouts])
        rewards = world.gather_groups({"brightness": brightness}, num_groups)
        if "dead" in kinds:  # all groups of the second of two processes
            rewards["brightness"][1::2] = 0.5
        together = combine(rewards, {"brightness": 1.0}, calibrate(rewards))
        assert together.dead_groups.any() == ("dead" in kinds)
        part = Advantages(together.values[own], together.is_counted[own], together.dead_groups[own])
        (metrics,) = [x for x in update(learner, rollouts, part) if isinstance(x, UpdateMetrics)]
        found |= {f"latents {number} {i}": r.latents for i, r in zip(own, rollouts, strict=True)}
        found[f"norm {number}"] = torch.tensor([metrics.grad_norm, metrics.loss, metrics.num_samples])
    if world.is_main:
        with policy.weights(learner.ema):
            found["picture"] = draw(policy, config, 0, 0).latents
    world.wait()
    found |= {name: parameter.detach().contiguous() for name, parameter in learner.parameters.items()}
    save_file(found, out / f"{world.rank}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
    leave(0)

"""One small configuration of every algorithm, and what tests of them share."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from flowgrpo.advantages import Advantages, combine
from flowgrpo.choices import AWM, DDPO, DPO, NFT, RWR, SFT, Algorithm, FlowGRPO
from flowgrpo.learner import Learner
from flowgrpo.rollout import Progress, Rollout
from flowgrpo.update import UpdateMetrics, update

TRAJECTORY: dict[str, Algorithm] = {
    "flow_grpo": FlowGRPO(),
    "guard": FlowGRPO(ratio="guard", step_weight="inv_kappa"),
    "ddpo": DDPO(step_weight="tau", unconditional_gradient=True),
}
FORWARD: dict[str, Algorithm] = {
    "nft": NFT(levels=2, old_rate=0.2),
    "nft plain": NFT(levels=2, adaptive=False, beta=0.3),
    "awm": AWM(levels=2),
}
REWARDED = TRAJECTORY | FORWARD | {"rwr": RWR(levels=2), "dpo": DPO(levels=2, beta=100.0, refresh_every=3)}
"""Those that learn from advantages."""
EVERY = REWARDED | {"sft": SFT(folder="unused")}


def judged(rollouts: Sequence[Rollout], seed: int = 0) -> Advantages:
    """Advantages of random rewards."""
    generator = torch.Generator().manual_seed(seed)
    size = len(rollouts[0].seeds)
    return combine({"r": torch.rand(len(rollouts), size, generator=generator)}, {"r": 1.0}, {"r": 0.3})


def even(groups: int = 1, samples: int = 6) -> Advantages:
    """Everything counts and nothing is better than anything."""
    counted = torch.ones(groups, samples, dtype=torch.bool)
    return Advantages(torch.zeros(groups, samples), counted, torch.zeros(groups, dtype=torch.bool))


def run(learner: Learner, rollouts: Sequence[Rollout], advantages: Advantages) -> list[UpdateMetrics]:
    return [event for event in update(learner, rollouts, advantages) if isinstance(event, UpdateMetrics)]


def gradients(
    learner: Learner, rollouts: Sequence[Rollout], advantages: Advantages
) -> dict[str, torch.Tensor]:
    """What an update would step on, caught at the last moment before the step."""
    events = update(learner, rollouts, advantages)
    for event in events:
        if isinstance(event, Progress) and event.done == event.total:
            break
    found = {name: p.grad.clone() for name, p in learner.parameters.items() if p.grad is not None}
    events.close()  # type: ignore[attr-defined]
    return found

"""The optimisation loop: replay the groups' transitions, weigh them by advantage, step. A generator of
metrics.

The first optimiser step of a rollout takes its own log_probs as the old ones, so its ratio is 1 by
construction and later steps on the same rollout are measured against the training graph, not against the
sampler's rounding. How far the replay was from what the sampler recorded is measured and reported as
`ratio_error`; in float32 it is 0.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowgrpo import lora, objectives
from flowgrpo.advantages import Advantages
from flowgrpo.config import UpdateConfig
from flowgrpo.policies.base import Policy
from flowgrpo.rollout import Progress, Rollout, StoredTransition, replay_velocity, rescore

EMA_WARM_UP = 10
"""The average's decay is at most (1 + n) / (EMA_WARM_UP + n) at update n, so that early updates are not
forgotten.
"""


@dataclass(frozen=True)
class UpdateMetrics:
    """One optimiser step; means are over the transitions that counted."""

    update: int
    policy_loss: float
    kl: float
    ratio_mean: float
    ratio_error: float
    """Largest |ratio - 1| against the sampler's own log_probs before the rollout's first step."""
    clip_fraction: float
    grad_norm: float
    num_samples: int
    """Samples that counted; 0 means that every group was dead and nothing was done."""
    is_skipped: bool
    """True if a gradient was not finite: no step was taken."""
    seconds: float


class Learner:
    """What an update changes: the adapter, its average and the optimiser."""

    def __init__(self, policy: Policy, config: UpdateConfig) -> None:
        self.policy = policy
        self.config = config
        self.parameters = policy.trainable_parameters()
        if not self.parameters:
            raise ValueError("the policy has nothing to learn: attach a LoRA first")
        self.optimizer = torch.optim.AdamW(
            list(self.parameters.values()), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.ema = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        self.update = 0
        self.skipped = 0

    def start_from(self, tensors: Mapping[str, Tensor]) -> None:
        """Begins with another checkpoint's adapter; before the first update."""
        assert self.update == 0
        lora.copy_into(self.parameters, tensors)
        lora.copy_into(self.ema, tensors)

    def step(self) -> tuple[float, bool]:
        """One optimiser step on the gradients as they are; returns (their norm, whether the step was
        skipped).

        A norm that is not finite skips the step, so that no weight and no moment ever sees it.
        """
        norm = torch.nn.utils.clip_grad_norm_(
            list(self.parameters.values()), self.config.max_grad_norm
        ).item()
        self.update += 1
        if not math.isfinite(norm):
            self.skipped += 1
        else:
            self.optimizer.step()
            self._average()
        self.optimizer.zero_grad(set_to_none=True)
        return norm, not math.isfinite(norm)

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.config.ema_decay, (1 + self.update) / (EMA_WARM_UP + self.update))
        for name, parameter in self.parameters.items():
            self.ema[name].lerp_(parameter, 1 - decay)

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """AdamW's moments and counts as `<kind>/<parameter>`."""
        state = self.optimizer.state
        return {
            f"{kind}/{name}": tensor
            for name, parameter in self.parameters.items()
            for kind, tensor in state.get(parameter, {}).items()
        }

    def load_optimizer_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `optimizer_tensors`."""
        self.optimizer.state.clear()
        for key, tensor in tensors.items():
            kind, _, name = key.partition("/")
            parameter = self.parameters[name]
            device = "cpu" if kind == "step" else parameter.device
            self.optimizer.state[parameter][kind] = tensor.to(device, copy=True)


@dataclass
class _Tally:
    """Sums over the transitions that counted."""

    policy_loss: float = 0.0
    kl: float = 0.0
    ratio: float = 0.0
    clipped: float = 0.0
    ratio_error: float = 0.0


@dataclass(frozen=True)
class _Piece:
    """One transition of one micro-batch: what goes through the network together."""

    rollout: Rollout
    stored: StoredTransition
    rows: slice
    advantages: Tensor
    counted: Tensor


def update(
    learner: Learner, rollouts: Sequence[Rollout], advantages: Advantages
) -> Iterator[Progress | UpdateMetrics]:
    """Yields a Progress after each network call and an UpdateMetrics after each optimiser step.

    rollouts: one per group, in the order of the rows of `advantages`. Stopping early leaves the weights as
    they were after the last UpdateMetrics.
    """
    if len(rollouts) != len(advantages.values):
        raise ValueError(
            f"expected one rollout per group, got {len(rollouts)} for {len(advantages.values)} groups"
        )
    pieces = list(_pieces(rollouts, advantages))
    old_log_probs: list[Tensor] = []
    for _ in range(learner.config.updates_per_rollout):
        yield from _one_update(learner, pieces, old_log_probs)


def _pieces(rollouts: Sequence[Rollout], advantages: Advantages) -> Iterator[_Piece]:
    """The micro-batches that hold at least one sample that counts."""
    for rollout, values, is_counted in zip(rollouts, advantages.values, advantages.is_counted, strict=True):
        device = rollout.latents.device
        counted = is_counted.to(device) & rollout.is_finite
        values = values.to(device)
        for rows in rollout.micro_batches:
            if counted[rows].any():
                for stored in rollout.transitions:
                    yield _Piece(rollout, stored, rows, values[rows], counted[rows])


def _one_update(
    learner: Learner, pieces: Sequence[_Piece], old_log_probs: list[Tensor]
) -> Iterator[Progress | UpdateMetrics]:
    """Gradients of all pieces, then one step. Fills `old_log_probs` on the rollout's first."""
    started, tally = time.perf_counter(), _Tally()
    is_first = not old_log_probs
    num_terms = int(sum(piece.counted.sum().item() for piece in pieces))
    learner.optimizer.zero_grad(set_to_none=True)
    for index, piece in enumerate(pieces):
        old = None if is_first else old_log_probs[index]
        loss, log_prob = _loss(learner, piece, old, tally)
        (loss / num_terms).backward()
        if is_first:
            old_log_probs.append(log_prob)
        yield Progress(index + 1, len(pieces))
    norm, is_skipped = learner.step() if num_terms else (0.0, False)
    steps = len({piece.stored.step for piece in pieces}) or 1
    scale = 1 / max(num_terms, 1)
    yield UpdateMetrics(
        update=learner.update,
        policy_loss=tally.policy_loss * scale,
        kl=tally.kl * scale,
        ratio_mean=tally.ratio * scale,
        ratio_error=tally.ratio_error,
        clip_fraction=tally.clipped * scale,
        grad_norm=norm,
        num_samples=num_terms // steps,
        is_skipped=is_skipped,
        seconds=time.perf_counter() - started,
    )


def _loss(learner: Learner, piece: _Piece, old: Tensor | None, tally: _Tally) -> tuple[Tensor, Tensor]:
    """(summed loss of the samples that count, their log_probs without graph)."""
    policy, config = learner.policy, learner.config
    reference = None
    if config.kl_weight > 0:
        with torch.no_grad(), policy.reference():
            reference = replay_velocity(policy, piece.rollout, piece.stored, piece.rows)
    velocity = replay_velocity(policy, piece.rollout, piece.stored, piece.rows)
    log_prob = rescore(piece.stored, piece.rows, velocity).log_prob
    assert log_prob is not None
    sampled = piece.stored.log_prob[piece.rows]
    clip_range = objectives.clip_range(config.clip_nats, velocity[0].numel())
    terms = objectives.grpo_loss(
        log_prob, log_prob.detach() if old is None else old, piece.advantages, clip_range
    )
    loss = terms.loss[piece.counted].sum()
    tally.policy_loss += loss.item()
    tally.ratio += terms.ratio[piece.counted].sum().item()
    tally.clipped += terms.is_clipped[piece.counted].sum().item()
    if old is None:
        error = ((log_prob.detach() - sampled).exp() - 1)[piece.counted].abs().max().item()
        tally.ratio_error = max(tally.ratio_error, error)
    if reference is not None:
        kl = objectives.velocity_kl(velocity, reference)[piece.counted].sum()
        tally.kl += kl.item()
        loss = loss + config.kl_weight * kl
    return loss, log_prob.detach()

"""The optimisation loop: the pieces of some rollouts through the network, their losses, one step. A generator
of metrics.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool
from torch import Tensor

from flowgrpo.advantages import Advantages
from flowgrpo.algorithms import Method, Piece, Tally, make_method
from flowgrpo.learner import Learner
from flowgrpo.rollout import Progress, Rollout


@dataclass(frozen=True)
class UpdateMetrics:
    """One optimiser step; means are over the terms that counted: a sample at a step or noise level."""

    update: int
    loss: float
    """Without the KL."""
    kl: float
    grad_norm: float
    num_samples: int
    """Samples that counted; 0 means that every group was dead and nothing was done."""
    is_skipped: bool
    """True if a gradient was not finite: no step was taken."""
    seconds: float
    means: dict[str, float] = field(default_factory=dict)
    """What the algorithm reports besides: ratio, clip_fraction, drift, positive, negative, accuracy,
    margin.
    """
    peaks: dict[str, float] = field(default_factory=dict)
    """Largest values: weight; ratio_error, |ratio - 1| to the sampler's own log_probs before the first
    step.
    """


def update(
    learner: Learner, rollouts: Sequence[Rollout], advantages: Advantages
) -> Iterator[Progress | UpdateMetrics]:
    """Yields a Progress after each network call and an UpdateMetrics after each optimiser step.

    rollouts: one per group of this process, in the order of the rows of `advantages`. Stopping early leaves
    the weights as they were after the last UpdateMetrics.
    """
    if len(rollouts) != len(advantages.values):
        raise ValueError(
            f"expected one rollout per group, got {len(rollouts)} for {len(advantages.values)} groups"
        )
    method = make_method(learner)
    pieces = list(method.pieces(rollouts, advantages))
    own_samples = (advantages.is_counted & _finite(rollouts, advantages)).sum().item()
    num_samples = int(learner.world.total({"samples": float(own_samples)})["samples"])
    for remaining in reversed(range(learner.config.updates_per_rollout)):
        if method.looks_anew and remaining < learner.config.updates_per_rollout - 1:
            pieces = list(method.pieces(rollouts, advantages))
        yield from _one_update(learner, method, pieces, num_samples, is_last=remaining == 0)


def _finite(rollouts: Sequence[Rollout], advantages: Advantages) -> Bool[Tensor, "group sample"]:
    if not rollouts:  # a process without a group of its own
        return torch.ones_like(advantages.is_counted)
    return torch.stack([rollout.is_finite.to(advantages.values.device) for rollout in rollouts])


def _one_update(
    learner: Learner, method: Method, pieces: Sequence[Piece], num_samples: int, *, is_last: bool
) -> Iterator[Progress | UpdateMetrics]:
    """Gradients of all pieces, then one step; the last of a rollout also ends the rollout."""
    started, tally = time.perf_counter(), Tally()
    own_terms = sum(piece.counted.sum().item() for piece in pieces)
    num_terms = int(learner.world.total({"terms": float(own_terms)})["terms"])
    learner.optimizer.zero_grad(set_to_none=True)
    for index, piece in enumerate(pieces):
        learner.backward(method.loss(piece, tally) / num_terms)
        if is_last:
            piece.memory.clear()
        yield Progress(index + 1, len(pieces))
    norm, is_skipped = learner.step() if num_terms else (0.0, False)
    if num_terms and not is_skipped:
        method.after_step()
    if is_last:
        learner.rollouts += 1
        method.after_rollout()
    sums, peaks = learner.world.total(tally.sums), learner.world.peak(tally.peaks)
    means = {name: total / max(num_terms, 1) for name, total in sums.items()}
    yield UpdateMetrics(
        update=learner.update,
        loss=means.pop("loss", 0.0),
        kl=means.pop("kl", 0.0),
        grad_norm=norm,
        num_samples=num_samples if num_terms else 0,
        is_skipped=is_skipped,
        seconds=time.perf_counter() - started,
        means=means,
        peaks=peaks,
    )

"""The optimisation loop: the pieces of some rollouts through the network, their losses, a step for
each minibatch. A generator of metrics.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool
from torch import Tensor

from flowgrpo.advantages import Advantages
from flowgrpo.algorithms import Method, Piece, Tally, Terms, make_method
from flowgrpo.learner import Learner
from flowgrpo.rollout import Progress, Rollout
from flowgrpo.seeds import derive_seed

_SHARES = 13
"""Sets these counters apart from others."""


@dataclass(frozen=True)
class UpdateMetrics:
    """One pass over a rollout; means are over the terms that counted: a sample at a step or noise level."""

    update: int
    loss: float
    """Without the KL."""
    kl: float
    grad_norm: float
    num_samples: int
    """Samples that counted; 0 means that every group was dead and nothing was done."""
    is_skipped: bool
    """True if a gradient was not finite: its step was not taken."""
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
    """Yields a Progress after each network call and an UpdateMetrics after each pass over the rollouts.

    rollouts: one per group of this process, in the order of the rows of `advantages`. Stopping early leaves
    the weights as they were after the last UpdateMetrics, unless the Progress said that it is halfway.
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
    """A pass over all pieces, an optimiser step for each minibatch; the last pass also ends the rollout."""
    started, tally, done = time.perf_counter(), Tally(), 0
    shares = _minibatches(learner, pieces)
    terms = [_terms(learner, share) for share in shares]
    counted = [number for number, one in enumerate(terms) if one.held]  # in any process
    steps: list[tuple[float, bool]] = []
    for number in counted:
        learner.optimizer.zero_grad(set_to_none=True)
        for piece in shares[number]:
            learner.backward(method.loss(piece, tally, terms[number]))
            if is_last:
                piece.memory.clear()
            done += 1
            yield Progress(done, len(pieces), is_halfway=bool(steps))
        steps.append(learner.step(ends_update=number == counted[-1]))
        if not steps[-1][1]:
            method.has_moved = True
            method.after_step()
    if is_last:
        learner.rollouts += 1
        method.after_rollout()
    sums, peaks = learner.world.total(tally.sums), learner.world.peak(tally.peaks)
    taught, held = sum(one.taught for one in terms), sum(one.held for one in terms)
    means = {name: total / max(held if name == "kl" else taught, 1) for name, total in sums.items()}
    yield UpdateMetrics(
        update=learner.update,
        loss=means.pop("loss", 0.0),
        kl=means.pop("kl", 0.0),
        grad_norm=max((norm for norm, _ in steps), default=0.0),
        num_samples=num_samples if counted else 0,
        is_skipped=any(is_skipped for _, is_skipped in steps),
        seconds=time.perf_counter() - started,
        means=means,
        peaks=peaks,
    )


def _minibatches(learner: Learner, pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Shares of equal size, the pieces in an order that follows from counters."""
    count = learner.config.minibatches
    if count == 1:
        return [list(pieces)]
    counters = (_SHARES, learner.rollouts, learner.update)
    order = sorted(range(len(pieces)), key=lambda index: derive_seed(*counters, index))
    return [[pieces[index] for index in order[number::count]] for number in range(count)]


def _terms(learner: Learner, pieces: Sequence[Piece]) -> Terms:
    """Of all processes."""
    own = {"taught": 0.0, "held": 0.0}
    for piece in pieces:
        count = piece.counted.sum().item()
        own["held"] += count
        own["taught"] += count if piece.is_taught else 0
    total = learner.world.total(own)
    return Terms(int(total["taught"]), int(total["held"]))

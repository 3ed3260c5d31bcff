"""Losses of one transition, per sample. No model, no optimiser, no reduction over samples (algorithms.md
1.3).

    ratio  = exp(log_prob - old_log_prob)
    policy = -min(ratio A, clip(ratio, 1 - c, 1 + c) A)
    KL     = mean over elements of (v - v_reference)^2

log_prob is a mean over latent elements, so a ratio of 1 + c is c * elements nats of the transition's density.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from flowgrpo.flow import Latents

PerSample = Float[Tensor, " sample"]


@dataclass(frozen=True)
class PolicyLoss:
    """The clipped surrogate of each sample, and what it was made of."""

    loss: PerSample
    ratio: PerSample
    is_clipped: Bool[Tensor, " sample"]
    """True where the clip took the gradient away."""


def clip_range(clip_nats: float, num_elements: int) -> float:
    """Half-width of the ratio's clip: a transition of `num_elements` may move by about `clip_nats` nats."""
    return clip_nats / num_elements


def grpo_loss(
    log_prob: PerSample, old_log_prob: PerSample, advantages: PerSample, clip_range: float
) -> PolicyLoss:
    """GRPO's surrogate of one transition (Flow-GRPO, equation 4); at ratio 1 its gradient is -A grad
    log_prob.
    """
    ratio = (log_prob - old_log_prob).exp()
    free = ratio * advantages
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range) * advantages
    return PolicyLoss(-free.minimum(clipped), ratio, clipped < free)


def velocity_kl(velocity: Latents, reference_velocity: Latents) -> PerSample:
    """Mean squared distance of velocities: the KL to the reference without its 1 / std^2.

    The true KL of a transition is this times a factor of (t, s, std) alone; without the factor every step
    weighs the same and nothing jumps near the end of the schedule (Flow-Factory issue 20).
    """
    return ((velocity - reference_velocity) ** 2).flatten(1).mean(1)

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
    """GRPO's surrogate of one transition (Flow-GRPO, equation 4).

    At ratio 1 its gradient is -A grad log_prob.
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


def sft_weight(alphas_cumprod: Float[Tensor, " timestep"]) -> Float[Tensor, " timestep"]:
    """Weight of each VP timestep's epsilon error: 1 / sqrt(SNR) (debiased estimation, Yu et al. 2023), >= 1.

    The colour of a whole area is decided where hardly any signal is left, and there the plain epsilon error
    barely sees it: backgrounds followed the starting noise instead of the prompt. Low noise keeps weight 1:
    sharp lines.
    """
    return ((1 - alphas_cumprod) / alphas_cumprod).sqrt().clamp(min=1)


def sft_loss(prediction: Latents, target: Latents, weight: PerSample) -> PerSample:
    """Supervised fine-tuning: weighted squared error of what the network predicts (Ho et al. 2020, eq. 14).

    Args:
        prediction, target: epsilon, v or the velocity, whichever the network was made for.
        weight: of each sample's timestep, see `sft_weight`.
    """
    return weight * ((prediction - target) ** 2).flatten(1).mean(1)

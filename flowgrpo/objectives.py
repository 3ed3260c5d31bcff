"""Losses of one transition, per sample. No model, no optimiser, no reduction over samples (algorithms.md
1.3).

    ratio  = exp(log_prob - old_log_prob)
    policy = -min(ratio A, clip(ratio, 1 - c, 1 + c) A)
    KL     = mean over elements of (v - v_reference)^2

log_prob is a mean over latent elements, so a ratio of 1 + c is c * elements nats of the transition's density.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from flowgrpo.flow import Latents, x0_hat

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


def clipped(ratio: PerSample, advantages: PerSample, clip_range: float) -> PolicyLoss:
    """The clipped surrogate -min(ratio A, clip(ratio) A) (PPO, arXiv 1707.06347, eq. 7; Flow-GRPO, eq. 4)."""
    free = ratio * advantages
    held = ratio.clamp(1 - clip_range, 1 + clip_range) * advantages
    return PolicyLoss(-free.minimum(held), ratio, held < free)


def grpo_loss(
    log_prob: PerSample, old_log_prob: PerSample, advantages: PerSample, clip_range: float
) -> PolicyLoss:
    """GRPO's surrogate of one transition (Flow-GRPO, equation 4).

    At ratio 1 its gradient is -A grad log_prob.
    """
    return clipped((log_prob - old_log_prob).exp(), advantages, clip_range)


def guard_ratio(next_latents: Latents, mean: Latents, old_mean: Latents, std: float) -> PerSample:
    """GRPO-Guard's ratio exp(mean(e * delta)), e = (x_s - old_mean) / std, delta = mean - old_mean.

    It is exp(std (log ratio + mean(delta^2) / (2 std^2))) (arXiv 2510.22319): the bias that pulls every ratio
    below 1 is gone, and the scale is the same at every step.
    """
    e = (next_latents.float() - old_mean) / std
    return (e * (mean - old_mean)).flatten(1).mean(1).exp()


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


def nft_loss(
    latents: Latents,
    x0: Latents,
    velocity: Latents,
    old_velocity: Latents,
    t: float,
    share: PerSample,
    beta: float,
    *,
    adaptive: bool = True,
) -> PerSample:
    """DiffusionNFT's contrast of an implicit better and worse policy (arXiv 2509.16117, section 3).

        v+ = (1 - beta) v_old + beta v        v- = (1 + beta) v_old - beta v
        loss = (share |x0+ - x0|^2 + (1 - share) |x0- - x0|^2) / beta

    Args:
        share: r in [0, 1], how much of the image is to be taken as better.
        adaptive: divides each square by its own mean absolute error, without gradient.
    """
    total = torch.zeros_like(share)
    for side, part in ((1.0, share), (-1.0, 1 - share)):
        implicit = old_velocity + side * beta * (velocity - old_velocity)
        error = (x0_hat(latents, implicit, t) - x0).flatten(1)
        size = error.detach().double().abs().mean(1).clamp(min=1e-5).float() if adaptive else 1.0
        total = total + part * (error**2).mean(1) / size
    return total / beta


def matching_likelihood(velocity: Latents, target: Latents, t: float, power: float) -> PerSample:
    """AWM's log-likelihood surrogate -(t / p) (l^p - 0^p), l = mean (v - target)^2 (arXiv 2509.25050).

    In float64: p below 1 has a steep start.
    """
    error = (velocity.double() - target.double()).square().flatten(1).mean(1)
    likelihood: Tensor = ((error + 1e-10) ** power - 1e-10**power) * (-t / power)
    return likelihood


def dpo_loss(better: PerSample, worse: PerSample, beta: float) -> tuple[PerSample, Bool[Tensor, " sample"]]:
    """(-log sigmoid(-(beta / 2) (better - worse)), whether the pair is told right already).

    Args:
        better, worse: error of the policy minus that of the reference on each image of the pair; of -1 / 2
            the constant of arXiv 2311.12908, eq. 14, with its T folded into beta.
    """
    inside = -(beta / 2) * (better - worse)
    return -F.logsigmoid(inside), inside > 0

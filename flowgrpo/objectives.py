"""The losses: one number per sample from what networks said. No model, no optimiser, no reduction over
samples.

Each is written as its paper writes it; docs/algorithm.md has them all in one notation. log_prob and every
error are means over latent elements, so a number means the same at every resolution, and a ratio of 1 + c is
c * elements nats of the transition's density. Where differences far below an error's size matter (AWM, DPO),
errors are float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from flowgrpo.flow import Latents, Prediction, Time, level, prediction_scale

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


def better_share(advantages: PerSample, clip: float) -> PerSample:
    """r = 1/2 + 1/2 clip(A / clip, -1, 1): how far a sample belongs to DiffusionNFT's better policy."""
    return 0.5 + 0.5 * (advantages / clip).clamp(-1, 1)


@dataclass(frozen=True)
class ContrastLoss:
    """DiffusionNFT's loss of each sample, and the errors of the two implicit policies."""

    loss: PerSample
    positive: PerSample
    negative: PerSample


def nft_loss(
    velocity: Latents,
    old_velocity: Latents,
    target: Latents,
    t: Time,
    share: PerSample,
    *,
    beta: float,
    adaptive: bool = True,
) -> ContrastLoss:
    """DiffusionNFT's contrast of an implicit better and worse policy (arXiv 2509.16117).

        v+ = (1 - beta) v_old + beta v        v- = (1 + beta) v_old - beta v
        loss = (r |x0+ - x0|^2 + (1 - r) |x0- - x0|^2) / beta,        x0+- = latents - t v+-

    x0+- - x0 is t (target - v+-), in RF and VP coordinates alike. Without the adaptive weight the loss is a
    constant + t^2 (2 (2 r - 1) <d, v_old - target> + beta |d|^2), d = v - v_old: advantage-weighted matching
    in a well around the old policy. At d = 0 its value says nothing of r; its gradient does.

    Args:
        target: eps - x0.
        share: r in [0, 1], how much of the image is to be taken as better.
        adaptive: divides each square by its own mean absolute error, at least 1e-5, without gradient.
    """
    d = beta * (velocity - old_velocity)
    positive = _clean_error(old_velocity + d, target, t, adaptive)
    negative = _clean_error(old_velocity - d, target, t, adaptive)
    return ContrastLoss((share * positive + (1 - share) * negative) / beta, positive, negative)


def _clean_error(velocity: Latents, target: Latents, t: Time, adaptive: bool) -> PerSample:
    """mean (x0_hat - x0)^2, over mean |x0_hat - x0| where it is adaptive; float64."""
    off = (level(t, velocity) * (target - velocity)).flatten(1).double()
    size = off.detach().abs().mean(1).clamp(min=1e-5) if adaptive else 1.0
    return (off**2).mean(1) / size


def matching_error(velocity: Latents, target: Latents) -> PerSample:
    """mean (v - (eps - x0))^2, the flow-matching loss (arXiv 2210.02747); float64."""
    return (velocity.double() - target.double()).square().flatten(1).mean(1)


def matching_likelihood(velocity: Latents, target: Latents, t: Time, power: float) -> PerSample:
    """AWM's log-likelihood surrogate -(t / p) (l^p - 0^p), l the flow-matching loss, 0 read as 1e-10 (arXiv
    2509.25050 and its code's generalised Huber weight). At p = 1 it is -t l.
    """
    error = matching_error(velocity, target)
    likelihood: Tensor = ((error + 1e-10) ** power - 1e-10**power) * (-t / power)
    return likelihood


def prediction_error(velocity: Latents, target: Latents, t: Time, prediction: Prediction) -> PerSample:
    """Mean squared error of what a network predicts (epsilon, v, x0): what it was trained to make small.

    At one time a prediction is the velocity times a number, plus what does not depend on the network.
    """
    return prediction_scale(t, prediction) ** 2 * matching_error(velocity, target)


def imitation_weights(
    advantages: Float[Tensor, "group sample"], counted: Bool[Tensor, "group sample"], temperature: float
) -> Float[Tensor, "group sample"]:
    """exp(A / temperature) over its mean in the group: reward-weighted regression (Peters & Schaal 2007; the
    RWR of arXiv 2305.13301). 0 where a sample does not count.
    """
    logits = (advantages / temperature).masked_fill(~counted, -torch.inf)
    shares = torch.where(counted, logits.softmax(1), 0.0)
    return shares * counted.sum(1, keepdim=True)


def preference_margin(better: PerSample, worse: PerSample, beta: float) -> PerSample:
    """-(beta / 2) (better - worse): by how much the policy prefers the better image more than its reference
    does (Diffusion-DPO, arXiv 2311.12908, eq. 14, with its T folded into beta).

    Args:
        better, worse: error of the policy minus that of the reference on each image of the pair.
    """
    return -(beta / 2) * (better - worse)


def dpo_loss(margin: PerSample) -> PerSample:
    """-log sigmoid(margin); ln 2 where the policy is its reference."""
    return -F.logsigmoid(margin)

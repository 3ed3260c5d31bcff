"""The Gaussian transition p(latents_s | latents_t) = N(mean, std^2 I) that sampler and update share.

    mean = (1 - s) x0_hat + sqrt(s^2 - std^2) eps_hat                     (algorithms.md 1.2, "unified")

Whatever `std`, the noise left in the latents has standard deviation s, so the network sees at every step what
it was trained on. `std = 0` is the Euler step of the probability-flow ODE, which is DDIM with eta 0. One
function draws and replays: what the update scores is what the sampler did, line for line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from flowgrpo.flow import Latents, eps_hat, x0_hat

MIN_TRAINED_STD = 1e-4
"""Below this a transition carries no usable log_prob: 1 / std^2 exceeds what float32 resolves. Never clamped,
refused.
"""


KernelName = Literal["exact", "cps", "ddim", "flow_sde", "dance_sde"]
Form = Literal["marginal", "euler_maruyama"]
"""How a mean follows from x0_hat, eps_hat and std."""


def form_of(kernel: KernelName) -> Form:
    """Which of the two means a kernel has."""
    return "euler_maruyama" if kernel in ("flow_sde", "dance_sde") else "marginal"


@dataclass(frozen=True)
class Transition:
    """One step of a batch of samples.

    next_latents: in the storage dtype, the dtype of the latents that went in.
    mean, std: of the Gaussian they were drawn from, RF coordinates, float32.
    log_prob: mean over latent elements of log N(next_latents; mean, std^2), nats; None for a deterministic
        step.
    """

    next_latents: Latents
    mean: Latents
    std: float
    log_prob: Float[Tensor, " sample"] | None


def exact_std(t: float, s: float, noise_level: float) -> float:
    """Std of the exact solution of Flow-GRPO's SDE over one step with x0_hat held fixed (Precise-SDE).

    With g(u) = noise_level sqrt(u / (1 - u)) the noise left of eps_hat shrinks by rho = (n_s /
    n_t)^(noise_level^2 / 2), n = t / (1 - t), and std = s sqrt(1 - rho^2). At noise_level sqrt(2) this is
    DDIM with eta 1; at t = 1, rho is 0.
    """
    if not 0 <= s < t <= 1:
        raise ValueError(f"a step goes from t to s with 0 <= s < t <= 1, got t = {t} and s = {s}")
    ratio = 0.0 if t == 1 else (s / (1 - s)) * ((1 - t) / t)
    rho = ratio ** (noise_level**2 / 2)
    return s * math.sqrt(1 - rho**2)


def kernel_std(kernel: KernelName, t: float, s: float, noise_level: float, t_next: float) -> float:
    """Std of a kernel's step from t to s; sources in docs/algorithm.md, section 2.

    t_next: the grid's second time, which flow_sde takes for t = 1, where its g is infinite.
    """
    if kernel == "exact":
        return exact_std(t, s, noise_level)
    if kernel == "cps":
        return s * math.sin(noise_level * math.pi / 2)
    if kernel == "ddim":
        ratio = 0.0 if t == 1 else (s / (1 - s)) * ((1 - t) / t)
        return noise_level * s * math.sqrt(1 - ratio**2)
    if kernel == "flow_sde":
        return noise_level * math.sqrt(t / (1 - (t_next if t == 1 else t))) * math.sqrt(t - s)
    return noise_level * math.sqrt(t - s)


def gradient_scale(t: float, s: float, std: float, form: Form = "marginal") -> float:
    """kappa = |d mean / d v| / std: how strongly a step's log_prob pulls at the velocity."""
    if form == "euler_maruyama":
        return abs((t - s) + std**2 * (1 - t) / (2 * t)) / std
    return abs((1 - t) * math.sqrt(s**2 - std**2) - t * (1 - s)) / std


def gaussian_log_prob(value: Latents, mean: Latents, std: float) -> Float[Tensor, " sample"]:
    """Mean over latent elements of log N(value; mean, std^2), in nats, one number per sample, float32."""
    squared = ((value.float() - mean) ** 2).flatten(1).mean(1)
    return -squared / (2 * std**2) - math.log(std) - 0.5 * math.log(2 * math.pi)


def transition(
    latents: Latents,
    velocity: Latents,
    t: float,
    s: float,
    std: float = 0.0,
    *,
    form: Form = "marginal",
    noise: Latents | None = None,
    next_latents: Latents | None = None,
) -> Transition:
    """The step from t to s: drawn where `noise` is given, replayed where `next_latents` is.

    All arithmetic is float32 whatever comes in. Drawn latents are rounded to the dtype of `latents` *before*
    they are scored, so that replaying the stored tensor gives the same log_prob. A deterministic step (std 0)
    needs neither.
    """
    if 0 < std < MIN_TRAINED_STD:
        raise ValueError(
            f"a stochastic step needs a std of at least {MIN_TRAINED_STD}, got {std} from {t} to {s}"
        )
    mean = _mean(latents.float(), velocity.float(), t, s, std, form)
    if std == 0:
        return Transition(mean.to(latents.dtype), mean, 0.0, None)
    if (noise is None) == (next_latents is None):
        raise ValueError(
            "a stochastic step is either drawn from noise or replayed from next_latents: give one of them"
        )
    if next_latents is None:
        assert noise is not None
        next_latents = torch.add(mean, noise, alpha=std).to(latents.dtype)
    return Transition(next_latents.detach(), mean, std, gaussian_log_prob(next_latents.detach(), mean, std))


def _mean(latents: Latents, velocity: Latents, t: float, s: float, std: float, form: Form) -> Latents:
    eps = eps_hat(latents, velocity, t)
    if form == "euler_maruyama":
        return latents - (t - s) * velocity - std**2 / (2 * t) * eps
    return (1 - s) * x0_hat(latents, velocity, t) + math.sqrt(s**2 - std**2) * eps

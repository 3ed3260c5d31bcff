"""The second-order multistep solver DPM-Solver++ (2M) for the deterministic steps of a sampler.

With alpha = 1 - t, sigma = t and lambda = log(alpha / sigma), the step from t to s is

    x_s = (s / t) x_t - (1 - s) (exp(-h) - 1) D,       h = lambda_s - lambda_t
    D   = x0_hat + (x0_hat - previous x0_hat) / (2 r),  r = (previous h) / h       (arXiv 2211.01095, alg. 2)

A VP model is walked in RF coordinates, where its path has the same noise-to-signal ratios, so the steps are
those of the VP solver. The first step, a step after a stochastic one and the step to time 0 are of first
order, which is Euler's (DDIM).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from flowgrpo.flow import Latents, x0_hat


@dataclass(frozen=True)
class Memory:
    """What a multistep solver remembers of the step before."""

    x0: Latents
    t: float
    s: float


def log_snr(t: float) -> float:
    """lambda = log((1 - t) / t)."""
    return math.log((1 - t) / t)


def multistep(
    latents: Latents, velocity: Latents, t: float, s: float, before: Memory | None
) -> tuple[Latents, Memory]:
    """(latents at s in the dtype of `latents`, what the next step needs); arithmetic in float32.

    before: of the step that ended at t; None makes this one of first order.
    """
    latents_32 = latents.float()
    x0 = x0_hat(latents_32, velocity.float(), t)
    direction = x0
    if before is not None and s > 0 and before.t < 1:
        h = log_snr(s) - log_snr(t)
        ratio = (log_snr(before.s) - log_snr(before.t)) / h
        direction = x0 + (x0 - before.x0) / (2 * ratio)
    # (1 - s) (1 - exp(-h)) = (1 - s) - (1 - t) s / t, which is exact at both ends of the schedule.
    next_latents = (s / t) * latents_32 + ((1 - s) - (1 - t) * s / t) * direction
    return next_latents.to(latents.dtype), Memory(x0, t, s)

"""One coordinate system: every model is driven as a rectified flow.

Rectified flow (RF): latents_t = (1 - t) x0 + t eps, velocity v = eps - x0, time t in [0, 1], 1 is pure noise.
Variance preserving (VP: SD 1.5, SDXL, SSD-1B): latents_vp = alpha x0 + sigma eps, alpha^2 + sigma^2 = 1.

The two are the same path up to a scale per time, and the map is exact:

    latents_rf = latents_vp / (alpha + sigma),     t = sigma / (alpha + sigma),     v = eps_hat - x0_hat

Times `t > s` are floats in float64; `t` is where a step starts and `s` where it ends. `timestep` is the
scheduler's scale, [0, 1000], and stays between this file and the network's call. Derivation:
docs/algorithm.md, section 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, Protocol, cast, overload, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

Prediction = Literal["epsilon", "v_prediction", "sample", "flow"]
"""What a network was trained to give: eps, alpha eps - sigma x0 or x0 (VP), or the velocity itself (RF)."""
Spacing = Literal["trailing", "leading", "linspace"]
"""How `num_steps` timesteps are picked from the training ones (arXiv 2305.08891, table 2)."""

Latents = Float[Tensor, "sample *latent"]
Time = float | Float[Tensor, " sample"]
"""RF time of all samples, or one per sample (float64 where it matters)."""


@runtime_checkable
class Schedule(Protocol):
    """The noise levels of a model: where a sampler walks, and what the network calls them."""

    def __hash__(self) -> int: ...

    def grid(self, num_steps: int) -> tuple[float, ...]:
        """`num_steps + 1` decreasing RF times; the last is 0."""
        ...

    def start_scale(self, t: float) -> float:
        """What unit Gaussian noise is multiplied by to give the RF latents that a sampler starts from at time
        t.
        """
        ...

    def timestep(self, t: Time) -> Time:
        """The number that the network is given at RF time t."""
        ...

    def training_time(self, share: float) -> float:
        """The RF time at this quantile, 0 to 1, of the times that such a model is trained at."""
        ...


def level(value: Time, latents: Latents) -> float | Tensor:
    """A number per sample, shaped to multiply latents with; a plain number stays one."""
    if not isinstance(value, Tensor):
        return value
    return value.to(latents).view(-1, *[1] * (latents.ndim - 1))


@overload
def vp_scale(t: float) -> float: ...
@overload
def vp_scale(t: Tensor) -> Tensor: ...
def vp_scale(t: Time) -> Time:
    """What RF latents are multiplied by to be VP latents: alpha + sigma, by alpha^2 + sigma^2 = 1."""
    return (t**2 + (1 - t) ** 2) ** -0.5


@overload
def vp_alpha_sigma(t: float) -> tuple[float, float]: ...
@overload
def vp_alpha_sigma(t: Tensor) -> tuple[Tensor, Tensor]: ...
def vp_alpha_sigma(t: Time) -> tuple[Time, Time]:
    """(alpha, sigma) of the VP path at RF time t."""
    return (1 - t) * vp_scale(t), t * vp_scale(t)


def to_rf(latents_vp: Latents, t: Time) -> Latents:
    """VP latents of noise ratio sigma / alpha = t / (1 - t) in RF coordinates."""
    return latents_vp / level(vp_scale(t), latents_vp)


def to_vp(latents: Latents, t: Time) -> Latents:
    """RF latents at time t in the coordinates that a VP network was trained in."""
    return latents * level(vp_scale(t), latents)


def noised(x0: Latents, eps: Latents, t: Time) -> Latents:
    """The path's latents at time t: (1 - t) x0 + t eps."""
    return level(1 - t, x0) * x0 + level(t, x0) * eps


def x0_hat(latents: Latents, velocity: Latents, t: Time) -> Latents:
    """The image the velocity points away from: x0 = latents - t v."""
    return latents - level(t, latents) * velocity


def eps_hat(latents: Latents, velocity: Latents, t: Time) -> Latents:
    """The noise the velocity points to: eps = latents + (1 - t) v."""
    return latents + level(1 - t, latents) * velocity


def velocity_from(prediction: Latents, latents: Latents, t: Time, kind: Prediction) -> Latents:
    """The velocity eps_hat - x0_hat from a network's prediction at RF latents of time t; 0 < t < 1 for VP."""
    if kind == "flow":
        return prediction
    if kind == "epsilon":
        return (prediction - latents) / level(1 - t, latents)
    if kind == "sample":
        return (latents - prediction) / level(t, latents)
    alpha, sigma = (level(x, latents) for x in vp_alpha_sigma(t))
    latents_vp = to_vp(latents, t)
    return (alpha * prediction + sigma * latents_vp) - (alpha * latents_vp - sigma * prediction)


def prediction_from(velocity: Latents, latents: Latents, t: Time, kind: Prediction) -> Latents:
    """The inverse of `velocity_from`: what a network must say for this velocity."""
    if kind == "flow":
        return velocity
    x0, eps = x0_hat(latents, velocity, t), eps_hat(latents, velocity, t)
    if kind == "epsilon":
        return eps
    if kind == "sample":
        return x0
    alpha, sigma = (level(x, latents) for x in vp_alpha_sigma(t))
    return alpha * eps - sigma * x0


def prediction_scale(t: Time, kind: Prediction) -> Time:
    """|d prediction / d velocity| at fixed latents: what an error of the velocity is to the network."""
    scales: dict[Prediction, Time] = {"flow": 1.0, "epsilon": 1 - t, "sample": t}
    return 1 / vp_scale(t) if kind == "v_prediction" else scales[kind]


@dataclass(frozen=True)
class VPSchedule:
    """The training noise levels of a VP model and the grids that a sampler walks on.

    noise_ratios: sigma / alpha at the training timesteps 0, 1, 2, ..., increasing, float64.
    unit_start: True starts at N(0, I) in VP coordinates (DDPM, DDIM, Euler with leading spacing); False at
        N(0, sigma^2 I), as diffusers' EulerDiscrete does with trailing and linspace spacing.
    """

    noise_ratios: tuple[float, ...]
    spacing: Spacing = "trailing"
    steps_offset: int = 0
    unit_start: bool = False

    @classmethod
    def from_alphas_cumprod(
        cls,
        alphas_cumprod: Sequence[float],
        spacing: str = "trailing",
        steps_offset: int = 0,
        unit_start: bool = False,
    ) -> VPSchedule:
        """From the product of (1 - beta), as schedulers carry it: alpha^2 at each training timestep."""
        if spacing not in ("trailing", "leading", "linspace"):
            raise ValueError(f"timestep_spacing must be trailing, leading or linspace, got {spacing!r}")
        alpha_squared = np.asarray(alphas_cumprod, dtype=np.float64)
        ratios = np.sqrt((1 - alpha_squared) / alpha_squared)
        return cls(tuple(ratios.tolist()), cast(Spacing, spacing), steps_offset, unit_start)

    def timesteps(self, num_steps: int) -> list[float]:
        """Decreasing training timesteps of a `num_steps` sampler; the same numbers as diffusers'
        EulerDiscrete.
        """
        total = len(self.noise_ratios)
        if not 1 <= num_steps <= total:
            raise ValueError(f"num_steps must be between 1 and {total}, got {num_steps}")
        if self.spacing == "trailing":
            timesteps = np.round(np.arange(total, 0, -total / num_steps))[:num_steps] - 1
        elif self.spacing == "leading":
            timesteps = np.arange(num_steps)[::-1] * (total // num_steps) + self.steps_offset
        else:
            timesteps = np.linspace(0, total - 1, num_steps, dtype=np.float32)[::-1]
        return [float(timestep) for timestep in timesteps]

    def time(self, timestep: float) -> float:
        """RF time of a training timestep; sigma / alpha is linear in between, as in EulerDiscrete."""
        ratio = float(np.interp(timestep, np.arange(len(self.noise_ratios)), self.noise_ratios))
        return ratio / (1 + ratio)

    def timestep(self, t: Time) -> Time:
        """The training timestep of RF time t, the inverse of `time`; the number that the network is given."""
        ratios = numbers(t) / (1 - numbers(t))
        timesteps = np.interp(ratios, self.noise_ratios, np.arange(len(self.noise_ratios)))
        # A grid time comes back as 619.9999999999; the network was trained at 620 and diffusers asks it
        # there.
        return like(np.round(timesteps, 6), t)

    def training_time(self, share: float) -> float:
        """Training timesteps are equally likely."""
        return self.time(float(min(int(share * len(self.noise_ratios)), len(self.noise_ratios) - 1)))

    def grid(self, num_steps: int) -> tuple[float, ...]:
        """`num_steps + 1` decreasing RF times; the last is 0, the first for SD's betas 0.936, not 1."""
        return (*(self.time(timestep) for timestep in self.timesteps(num_steps)), 0.0)

    def start_scale(self, t: float) -> float:
        """What unit Gaussian noise is multiplied by to give the RF latents that a sampler starts from at time
        t.
        """
        return 1 / vp_scale(t) if self.unit_start else t


@dataclass(frozen=True)
class RFSchedule:
    """The grid of a rectified-flow model (SD3, FLUX): equal steps in t, shifted towards noise.

    shift: k of t' = k t / (1 + (k - 1) t); 1 leaves the grid as it is.
    ends: unshifted first and last time of a grid; a last of None is 1 / num_steps.
    num_train_timesteps: what t = 1 is called in the network's scale.
    """

    shift: float = 1.0
    ends: tuple[float, float | None] = (1.0, None)
    num_train_timesteps: int = 1000

    def grid(self, num_steps: int) -> tuple[float, ...]:
        """`num_steps + 1` decreasing RF times; the last is 0."""
        if not 1 <= num_steps <= self.num_train_timesteps:
            raise ValueError(f"num_steps must be between 1 and {self.num_train_timesteps}, got {num_steps}")
        first, last = self.ends
        times = np.linspace(first, 1 / num_steps if last is None else last, num_steps)
        return (*(shifted(time, self.shift) for time in times.tolist()), 0.0)

    def start_scale(self, t: float) -> float:
        """A flow starts at t = 1, from N(0, I)."""
        return t

    def training_time(self, share: float) -> float:
        """The logistic function of a unit Gaussian (SD3, arXiv 2403.03206, section 3.1), off its ends."""
        return 1 / (1 + math.exp(-NormalDist().inv_cdf(min(max(share, 1e-3), 1 - 1e-3))))

    def timestep(self, t: Time) -> Time:
        """1000 t."""
        return t * self.num_train_timesteps


def shifted(t: float, shift: float) -> float:
    """t' = k t / (1 + (k - 1) t): more of the grid's steps near noise for k > 1 (SD3, eq. 23).

    Written so that 1 stays exactly 1: a hair less is an infinite noise ratio of its own, no longer the start.
    """
    return t / (t + (1 - t) / shift)


def numbers(t: Time) -> NDArray[np.float64]:
    """Times in float64, for numpy."""
    return np.asarray(t.detach().double().cpu() if isinstance(t, Tensor) else t, dtype=np.float64)


def like(values: NDArray[np.float64] | np.float64, t: Time) -> Time:
    """What numpy gave, as a number or a tensor, whichever t was."""
    return torch.from_numpy(np.asarray(values)).to(t.device) if isinstance(t, Tensor) else float(values)

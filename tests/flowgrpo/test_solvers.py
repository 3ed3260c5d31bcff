"""The multistep solver against diffusers' own, and against a flow whose solution is known."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from flowgrpo import kernels, solvers
from flowgrpo.flow import eps_hat, to_vp, x0_hat
from flowgrpo.policies import Policy
from flowgrpo.rollout import sample
from tests.flowgrpo.conftest import SETTINGS

STD = 0.5


def gaussian_velocity(latents: Tensor, t: float) -> Tensor:
    """E[eps - x0 | latents] where x0 ~ N(0, STD^2)."""
    variance = (1 - t) ** 2 * STD**2 + t**2
    return latents * (t - (1 - t) * STD**2) / variance


def walk(times: list[float], start: Tensor) -> Tensor:
    latents, before = start, None
    for t, s in pairwise(times):
        latents, before = solvers.multistep(latents, gaussian_velocity(latents, t), t, s, before)
    return latents


def test_every_step_is_that_of_diffusers_for_a_vp_model() -> None:
    theirs = DPMSolverMultistepScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="trailing",
        final_sigmas_type="zero", lower_order_final=True,
    )  # fmt: skip
    theirs.set_timesteps(20)
    times = [*(float(sigma / (1 + sigma)) for sigma in theirs.sigmas[:-1].double()), 0.0]
    latents, before = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), None
    ours = latents * times[0]
    vp = to_vp(ours, times[0])
    for (t, s), timestep in zip(pairwise(times), theirs.timesteps, strict=True):
        velocity = gaussian_velocity(ours, t)
        epsilon = eps_hat(ours, velocity, t)
        vp = theirs.step(epsilon, timestep, vp).prev_sample
        ours, before = solvers.multistep(ours, velocity, t, s, before)
        torch.testing.assert_close(to_vp(ours, s), vp, rtol=2e-4, atol=2e-5)


def test_every_step_is_that_of_diffusers_for_a_flow() -> None:
    theirs = DPMSolverMultistepScheduler(
        use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction", final_sigmas_type="zero"
    )
    theirs.set_timesteps(12)
    times = theirs.sigmas.double().tolist()
    ours = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    flow, before = ours.clone(), None
    for (t, s), timestep in zip(pairwise(times), theirs.timesteps, strict=True):
        flow = theirs.step(gaussian_velocity(ours, t), timestep, flow).prev_sample
        ours, before = solvers.multistep(ours, gaussian_velocity(ours, t), t, s, before)
        torch.testing.assert_close(ours, flow, rtol=2e-4, atol=2e-5)


def test_its_error_falls_with_the_square_of_the_step() -> None:
    start = torch.ones(1, 1, 1, 1)
    times = [[0.9 * (1 - i / n) + 0.1 * i / n for i in range(n + 1)] for n in (16, 32, 64, 128)]
    # The exact flow of a Gaussian keeps latents / std(t).
    stds = [math.hypot((1 - t) * STD, t) for t in (0.9, 0.1)]
    errors = [abs(walk(grid, start).item() - stds[1] / stds[0]) for grid in times]
    orders = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert all(order > 1.7 for order in orders)


def test_without_a_memory_it_is_eulers_step() -> None:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    velocity = gaussian_velocity(latents, 0.8)
    ours, memory = solvers.multistep(latents, velocity, 0.8, 0.6, None)
    torch.testing.assert_close(ours, kernels.transition(latents, velocity, 0.8, 0.6).next_latents)
    torch.testing.assert_close(memory.x0, x0_hat(latents, velocity, 0.8))


@pytest.mark.parametrize("t", [1.0, 0.3])
def test_the_ends_of_the_schedule_are_finite(t: float) -> None:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    before = solvers.Memory(latents, 1.0, t) if t < 1 else None
    ended, _ = solvers.multistep(latents, gaussian_velocity(latents, t), t, 0.0, before)
    assert ended.isfinite().all()
    torch.testing.assert_close(ended, x0_hat(latents, gaussian_velocity(latents, t), t))


def test_a_sampler_with_it_draws_other_images_from_the_same_noise(policy: Policy) -> None:
    settings = SETTINGS | {"window": None, "num_steps": 6}
    euler, multi = (
        sample(policy, ["red hair"], seeds=[1], **settings | {"solver": name})
        for name in ("euler", "dpmpp_2m")
    )
    assert not torch.equal(euler.latents, multi.latents)
    assert (euler.latents - multi.latents).abs().mean() < euler.latents.abs().mean()

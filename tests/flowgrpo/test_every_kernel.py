"""What holds for all five kernels, and what tells the exact ones from Euler-Maruyama."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import get_args

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from flowgrpo import flow
from flowgrpo.kernels import KernelName, form_of, gradient_scale, kernel_std, transition
from flowgrpo.policies.schedules import read_schedule
from tests.tiny import tiny_scheduler

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

KERNELS: tuple[KernelName, ...] = get_args(KernelName)
LEVEL: dict[str, float] = {"exact": 1.0, "cps": 0.8, "ddim": 0.9, "flow_sde": 0.7, "dance_sde": 0.3}
SHAPE = (2, 4, 8, 8)
TIMES = (1.0, 0.95, 0.8, 0.55, 0.3, 0.12)
GRID = [3 * t / (1 + 2 * t) for t in (1 - i / 10 for i in range(11))]
"""Ten steps of a rectified flow with shift 3, as Flow-GRPO samples SD3.5."""


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def std_of(kernel: KernelName, t: float, s: float) -> float:
    return kernel_std(kernel, t, s, LEVEL[kernel], TIMES[1])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("step", list(pairwise(TIMES)))
def test_log_prob_is_that_of_torch_distributions_and_finite_at_time_one(
    kernel: KernelName, step: tuple[float, float]
) -> None:
    """Pitfalls 6 and 7: the full Gaussian, one function for all kernels, no singular start."""
    (t, s), std = step, std_of(kernel, *step)
    latents, velocity, noise = (gaussian(*SHAPE, seed=seed) for seed in range(3))
    drawn = transition(latents, velocity, t, s, std, form=form_of(kernel), noise=noise)
    oracle = torch.distributions.Normal(drawn.mean.double(), std).log_prob(drawn.next_latents.double())
    assert drawn.log_prob is not None
    assert drawn.log_prob.isfinite().all()
    torch.testing.assert_close(drawn.log_prob.double(), oracle.flatten(1).mean(1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@given(t=st.floats(0.05, 1.0), share=st.floats(0.1, 0.95), seed=st.integers(0, 5))
def test_a_replay_of_what_was_stored_has_ratio_one(
    kernel: KernelName, dtype: torch.dtype, t: float, share: float, seed: int
) -> None:
    """Pitfalls 3 and 4: times are stored as floats, rounding precedes scoring, in every dtype."""
    s = t * share
    std, form = std_of(kernel, t, s), form_of(kernel)
    latents, velocity = (gaussian(*SHAPE, seed=seed + i).to(dtype) for i in range(2))
    drawn = transition(latents, velocity, t, s, std, form=form, noise=gaussian(*SHAPE, seed=seed + 2))
    again = transition(latents, velocity, t, s, std, form=form, next_latents=drawn.next_latents)
    assert drawn.log_prob is not None
    assert again.log_prob is not None
    assert torch.equal(drawn.log_prob, again.log_prob)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_step_to_time_zero_is_never_stochastic(kernel: KernelName) -> None:
    """Pitfall 7: there is no noise left at the end; what still has a std there is refused as a step."""
    if form_of(kernel) == "marginal":
        assert std_of(kernel, 0.1, 0.0) == 0
    latents = gaussian(*SHAPE)
    with pytest.raises(ValueError, match="std of at least"):
        transition(latents, latents, 0.1, 0.0, 1e-5, form=form_of(kernel), noise=latents)


@pytest.mark.parametrize("eta", [0.3, 0.7, 1.0])
@pytest.mark.parametrize("num_steps", [5, 20])
def test_ddim_is_the_step_of_diffusers_at_every_eta(eta: float, num_steps: int) -> None:
    ddim = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="trailing",
        clip_sample=False,
    )  # fmt: skip
    ddim.set_timesteps(num_steps)
    _, schedule = read_schedule(tiny_scheduler())
    times = schedule.grid(num_steps)
    latents, eps, noise = (gaussian(*SHAPE, seed=seed) for seed in range(3))
    for timestep, t, s in zip(ddim.timesteps[:-1], times[:-2], times[1:-1], strict=True):
        theirs = ddim.step(eps, int(timestep), flow.to_vp(latents, t), eta=eta, variance_noise=noise)
        std = kernel_std("ddim", t, s, eta, times[1])
        velocity = flow.velocity_from(eps, latents, t, "epsilon")
        ours = transition(latents, velocity, t, s, std, noise=noise)
        torch.testing.assert_close(flow.to_vp(ours.next_latents, s), theirs.prev_sample, rtol=1e-5, atol=3e-5)


def test_cps_keeps_the_share_of_the_old_noise_that_its_eta_says() -> None:
    """FlowCPS: x_s = (1 - s) x0_hat + s cos(eta pi / 2) eps_hat + s sin(eta pi / 2) w."""
    latents, velocity, noise = (gaussian(*SHAPE, seed=seed) for seed in range(3))
    t, s, angle = 0.7, 0.5, 0.8 * math.pi / 2
    drawn = transition(latents, velocity, t, s, std_of("cps", t, s), noise=noise)
    x0, eps = latents - t * velocity, latents + (1 - t) * velocity
    expected = (1 - s) * x0 + s * math.cos(angle) * eps + s * math.sin(angle) * noise
    torch.testing.assert_close(drawn.next_latents, expected)


def test_flow_sde_is_equation_9_of_flow_grpo() -> None:
    latents, velocity, noise = (gaussian(*SHAPE, seed=seed) for seed in range(3))
    t, s, a = 0.7, 0.5, 0.7
    sigma = a * math.sqrt(t / (1 - t))
    drift = velocity + sigma**2 / (2 * t) * (latents + (1 - t) * velocity)
    expected = latents + drift * (s - t) + sigma * math.sqrt(t - s) * noise
    std = kernel_std("flow_sde", t, s, a, 0.9)
    drawn = transition(latents, velocity, t, s, std, form="euler_maruyama", noise=noise)
    torch.testing.assert_close(drawn.next_latents, expected)


def test_dance_sde_is_the_step_of_dancegrpo() -> None:
    latents, velocity, noise = (gaussian(*SHAPE, seed=seed) for seed in range(3))
    t, s, eta = 0.7, 0.5, 0.3
    score = -(latents - (1 - t) * (latents - t * velocity)) / t**2
    expected = latents + (s - t) * velocity + 0.5 * eta**2 * (t - s) * score
    expected = expected + eta * math.sqrt(t - s) * noise
    std = kernel_std("dance_sde", t, s, eta, 0.9)
    drawn = transition(latents, velocity, t, s, std, form="euler_maruyama", noise=noise)
    torch.testing.assert_close(drawn.next_latents, expected)


def test_ever_finer_euler_maruyama_steps_become_the_exact_kernel() -> None:
    """The part of the noise that survives from .6 to .5 at a = .7 is .75453 (algorithms.md 7.5)."""
    a, steps = 0.7, 20_000
    times = [0.6 - 0.1 * i / steps for i in range(steps + 1)]
    left = 1.0
    for t, s in pairwise(times):
        # Point-mass data at 0: latents = left, v = latents / t, eps_hat = latents / t.
        left -= (t - s) * left / t + kernel_std("flow_sde", t, s, a, 0.9) ** 2 / (2 * t) * left / t
    ours = math.sqrt(0.5**2 - kernel_std("exact", 0.6, 0.5, a, 0.9) ** 2) / 0.6
    assert ours == pytest.approx(0.75453, abs=1e-5)
    assert left == pytest.approx(ours, abs=2e-5)


def noise_left(kernel: KernelName, level: float) -> list[float]:
    """Std of the noise left after each stochastic step on point-mass data, over what the time says."""
    second, shares = GRID[1], []
    variance = GRID[0] ** 2
    for t, s in pairwise(GRID[:-1]):
        std = kernel_std(kernel, t, s, level, second)
        # With x0 = 0 the mean is linear in the latents, so variances can be followed exactly.
        one = torch.ones(1, 1, dtype=torch.float32)
        mean = transition(one, one / t, t, s, std, form=form_of(kernel), next_latents=one).mean.item()
        variance = variance * mean**2 + std**2
        shares.append(math.sqrt(variance) / s)
    return shares


@pytest.mark.parametrize(("kernel", "level"), [("exact", 0.7), ("exact", 1.4), ("cps", 0.8), ("ddim", 1.0)])
def test_marginal_kernels_leave_the_noise_that_the_time_says(kernel: KernelName, level: float) -> None:
    """Pitfall 8."""
    assert noise_left(kernel, level) == pytest.approx([1.0] * 9, abs=1e-4)


def test_euler_maruyama_leaves_too_much_noise() -> None:
    """Finding 2 of algorithms.md: 1.29 times after the last trained step at a = .7, 1.53 at a = 1."""
    assert noise_left("flow_sde", 0.7)[-1] == pytest.approx(1.29, abs=0.01)
    assert noise_left("flow_sde", 1.0)[-1] == pytest.approx(1.53, abs=0.01)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("step", list(pairwise(TIMES[1:])))
def test_kappa_is_the_gradient_of_the_mean_over_the_std(
    kernel: KernelName, step: tuple[float, float]
) -> None:
    (t, s), std, form = step, std_of(kernel, *step), form_of(kernel)
    velocity = gaussian(1, 1, 1, 1).requires_grad_()
    latents = gaussian(1, 1, 1, 1, seed=1)
    mean = transition(latents, velocity, t, s, std, form=form, next_latents=latents).mean
    (gradient,) = torch.autograd.grad(mean.sum(), velocity)
    assert gradient_scale(t, s, std, form) == pytest.approx(abs(gradient.item()) / std, rel=1e-4)


def test_late_steps_pull_many_times_harder_than_early_ones() -> None:
    """algorithms.md 1.2 gives kappa from the first to the last trained step: exact 0.04 to 1.43."""
    stds = [kernel_std("exact", t, s, 0.7, GRID[1]) for t, s in pairwise(GRID[:-1])]
    kappas = [gradient_scale(t, s, std) for (t, s), std in zip(pairwise(GRID[:-1]), stds, strict=True)]
    assert kappas == sorted(kappas)
    assert kappas[0] == pytest.approx(0.04, abs=0.01)
    assert kappas[-1] == pytest.approx(1.43, abs=0.02)


def test_the_map_between_vp_and_rectified_flow_is_exact_in_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    latents, eps, x0 = (torch.randn(4, 16, generator=generator, dtype=torch.float64) for _ in range(3))
    for t in (0.05, 0.4, 0.93):
        alpha, sigma = flow.vp_alpha_sigma(t)
        assert alpha**2 + sigma**2 == pytest.approx(1, abs=1e-12)
        vp = alpha * x0 + sigma * eps
        torch.testing.assert_close(flow.to_rf(vp, t), (1 - t) * x0 + t * eps, rtol=0, atol=1e-12)
        torch.testing.assert_close(flow.to_vp(flow.to_rf(latents, t), t), latents, rtol=0, atol=1e-12)
        for kind in ("epsilon", "v_prediction", "sample", "flow"):
            velocity = flow.velocity_from(eps, latents, t, kind)
            back = flow.prediction_from(velocity, latents, t, kind)
            torch.testing.assert_close(back, eps, rtol=0, atol=1e-12)


def test_a_flow_starts_at_time_one_and_walks_as_diffusers_does() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(10)
    times = scheduler.sigmas.double().tolist()
    latents, velocity = gaussian(*SHAPE), gaussian(*SHAPE, seed=1)
    for timestep, (t, s) in zip(scheduler.timesteps, pairwise(times), strict=True):
        theirs = scheduler.step(velocity, timestep, latents).prev_sample
        torch.testing.assert_close(transition(latents, velocity, t, s).next_latents, theirs)

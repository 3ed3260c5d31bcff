from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st

from flowgrpo import flow
from flowgrpo.kernels import exact_std, gaussian_log_prob, transition
from flowgrpo.policies.schedules import read_schedule
from tests.tiny import tiny_scheduler

# diffusers calls numpy in a way that numpy 2 has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SHAPE = (3, 8, 4, 4)


def gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


steps = st.tuples(st.floats(0.02, 1.0), st.floats(0.05, 0.95), st.floats(0.3, 3.0)).map(
    lambda x: (x[0], x[0] * x[1], x[2])
)


@pytest.mark.parametrize("dtype", DTYPES)
@given(step=steps, seed=st.integers(0, 10))
def test_a_replay_is_the_draw_bit_for_bit(
    dtype: torch.dtype, step: tuple[float, float, float], seed: int
) -> None:
    t, s, noise_level = step
    latents, velocity = gaussian(*SHAPE, seed=seed, dtype=dtype), gaussian(*SHAPE, seed=seed + 1, dtype=dtype)
    std = exact_std(t, s, noise_level)
    drawn = transition(latents, velocity, t, s, std, noise=gaussian(*SHAPE, seed=seed + 2))
    replayed = transition(latents, velocity, t, s, std, next_latents=drawn.next_latents)
    assert drawn.next_latents.dtype == dtype
    assert drawn.log_prob is not None
    assert replayed.log_prob is not None
    assert torch.equal(drawn.log_prob, replayed.log_prob)
    assert (replayed.log_prob - drawn.log_prob).exp().eq(1).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_prob_is_the_mean_of_torch_distributions(dtype: torch.dtype) -> None:
    latents, velocity = gaussian(*SHAPE, dtype=dtype), gaussian(*SHAPE, seed=1, dtype=dtype)
    drawn = transition(latents, velocity, 0.7, 0.5, 0.3, noise=gaussian(*SHAPE, seed=2))
    oracle = torch.distributions.Normal(drawn.mean.double(), 0.3).log_prob(drawn.next_latents.double())
    assert drawn.log_prob is not None
    torch.testing.assert_close(drawn.log_prob.double(), oracle.flatten(1).mean(1), rtol=1e-5, atol=1e-6)
    whole = torch.distributions.Independent(torch.distributions.Normal(drawn.mean.double(), 0.3), 3)
    num_elements = math.prod(SHAPE[1:])
    torch.testing.assert_close(
        drawn.log_prob.double() * num_elements, whole.log_prob(drawn.next_latents.double()),
        rtol=1e-5, atol=1e-3,
    )  # fmt: skip


@given(step=steps)
def test_noise_left_in_the_latents_has_the_std_that_the_time_says(step: tuple[float, float, float]) -> None:
    """Point-mass data: the velocity is known, so what is left after a step can be measured."""
    t, s, noise_level = step
    x0 = torch.full((1, 20_000), 1.7)
    latents = (1 - t) * x0 + t * gaussian(1, 20_000)
    velocity = (latents - x0) / t
    drawn = transition(
        latents, velocity, t, s, exact_std(t, s, noise_level), noise=gaussian(1, 20_000, seed=1)
    )
    left = (drawn.next_latents - (1 - s) * x0) / s
    assert left.std().item() == pytest.approx(1, abs=0.02)
    assert left.mean().item() == pytest.approx(0, abs=0.04)


def test_noise_is_preserved_along_a_whole_grid() -> None:
    _, schedule = read_schedule(tiny_scheduler())
    times = schedule.grid(12)
    x0 = torch.full((1, 40_000), -0.8)
    latents = (1 - times[0]) * x0 + times[0] * gaussian(1, 40_000)
    for step, (t, s) in enumerate(pairwise(times[:-1])):
        noise = gaussian(1, 40_000, seed=10 + step)
        latents = transition(
            latents, (latents - x0) / t, t, s, exact_std(t, s, 1.0), noise=noise
        ).next_latents
        assert ((latents - (1 - s) * x0) / s).std().item() == pytest.approx(1, abs=0.012)


@pytest.mark.parametrize("num_steps", [5, 8, 20])
def test_noise_level_sqrt_2_is_ddim_with_eta_1(num_steps: int) -> None:
    ddim = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="trailing",
        clip_sample=False,
    )  # fmt: skip
    ddim.set_timesteps(num_steps)
    _, schedule = read_schedule(tiny_scheduler())
    times = schedule.grid(num_steps)
    latents, eps, noise = (gaussian(*SHAPE, seed=seed) for seed in range(3))
    for timestep, t, s in zip(ddim.timesteps[:-1], times[:-2], times[1:-1], strict=True):
        theirs = ddim.step(
            eps, int(timestep), flow.to_vp(latents, t), eta=1.0, variance_noise=noise
        ).prev_sample
        velocity = flow.velocity_from(eps, latents, t, "epsilon")
        ours = transition(latents, velocity, t, s, exact_std(t, s, math.sqrt(2)), noise=noise)
        torch.testing.assert_close(flow.to_vp(ours.next_latents, s), theirs, rtol=1e-5, atol=2e-5)
        variance = ddim._get_variance(int(timestep), int(timestep) - 1000 // num_steps)
        assert exact_std(t, s, math.sqrt(2)) * flow.vp_scale(s) == pytest.approx(
            float(variance**0.5), rel=1e-5
        )


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
def test_a_deterministic_step_is_the_step_of_euler_discrete(
    prediction: flow.Prediction, spacing: str
) -> None:
    scheduler: EulerDiscreteScheduler = tiny_scheduler(prediction, spacing)
    _, schedule = read_schedule(scheduler)
    scheduler.set_timesteps(10)
    times = schedule.grid(10)
    latents = gaussian(*SHAPE) * schedule.start_scale(times[0])
    theirs = latents / (1 - times[0])
    for step, (timestep, t, s) in enumerate(zip(scheduler.timesteps, times[:-1], times[1:], strict=True)):
        output = gaussian(*SHAPE, seed=step)
        theirs = scheduler.step(output, timestep, theirs).prev_sample
        velocity = flow.velocity_from(output, latents, t, prediction)
        latents = transition(latents, velocity, t, s).next_latents
        torch.testing.assert_close(latents / (1 - s), theirs, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(latents, theirs, rtol=1e-5, atol=1e-5)


def test_the_exact_std_is_the_limit_of_many_euler_maruyama_steps() -> None:
    """algorithms.md 7.5: with a = 0.7 the noise shrinks by .75453 from .6 to .5 in 20,000 small steps."""
    t, s, level, num = 0.6, 0.5, 0.7, 20_000
    contraction, u = 1.0, t
    for _ in range(num):
        step = (t - s) / num
        g2 = level**2 * u / (1 - u)
        contraction *= 1 - (g2 / (2 * u) + (1 + g2 * (1 - u) / (2 * u)) / u) * step
        u -= step
    rho = math.sqrt(1 - (exact_std(t, s, level) / s) ** 2)
    assert s / t * rho == pytest.approx(0.75453, abs=1e-5)
    assert contraction == pytest.approx(s / t * rho, abs=1e-5)


def test_everything_is_finite_from_pure_noise_to_the_last_step() -> None:
    latents, velocity, noise = (gaussian(*SHAPE, seed=seed) for seed in range(3))
    assert exact_std(1.0, 0.9, 0.7) == pytest.approx(0.9)
    first = transition(latents, velocity, 1.0, 0.9, exact_std(1.0, 0.9, 0.7), noise=noise)
    assert first.log_prob is not None
    assert first.log_prob.isfinite().all()
    last = transition(latents, velocity, 0.1, 0.0)
    assert last.log_prob is None
    torch.testing.assert_close(last.next_latents, flow.x0_hat(latents, velocity, 0.1))


def test_the_last_step_cannot_be_stochastic_and_nothing_is_clamped() -> None:
    latents = gaussian(*SHAPE)
    assert exact_std(0.1, 0.0, 1.0) == 0
    with pytest.raises(ValueError, match="needs a std of at least"):
        transition(latents, latents, 0.1, 0.00001, 0.00001, noise=latents)
    with pytest.raises(ValueError, match="give one of them"):
        transition(latents, latents, 0.5, 0.3, 0.1)
    with pytest.raises(ValueError, match="0 <= s < t <= 1"):
        exact_std(0.3, 0.5, 1.0)


def test_gradients_reach_the_velocity_and_not_what_was_drawn() -> None:
    latents, velocity = gaussian(*SHAPE), gaussian(*SHAPE, seed=1).requires_grad_()
    drawn = transition(latents, velocity, 0.7, 0.5, 0.2, noise=gaussian(*SHAPE, seed=2))
    assert not drawn.next_latents.requires_grad
    assert drawn.log_prob is not None
    (gradient,) = torch.autograd.grad(drawn.log_prob.sum(), velocity)
    factor = -0.5 * 0.7 + math.sqrt(0.5**2 - 0.2**2) * 0.3
    expected = (drawn.next_latents - drawn.mean.detach()) * factor / 0.2**2 / math.prod(SHAPE[1:])
    torch.testing.assert_close(gradient, expected)


def test_a_scored_latent_has_the_precision_of_its_storage() -> None:
    latents = gaussian(*SHAPE, dtype=torch.bfloat16)
    drawn = transition(latents, latents, 0.7, 0.5, 0.2, noise=gaussian(*SHAPE, seed=2))
    assert drawn.log_prob is not None
    assert torch.equal(drawn.log_prob, gaussian_log_prob(drawn.next_latents, drawn.mean, 0.2))

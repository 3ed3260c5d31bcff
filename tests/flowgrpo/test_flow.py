from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st

from flowgrpo import flow
from flowgrpo.policies.schedules import read_schedule
from tests.tiny import tiny_scheduler

# diffusers calls numpy in a way that numpy 2 has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

times = st.floats(0.001, 0.999)


@pytest.fixture(params=["trailing", "leading", "linspace"])
def scheduler(request: pytest.FixtureRequest) -> EulerDiscreteScheduler:
    return tiny_scheduler(spacing=request.param)


@pytest.mark.parametrize("num_steps", [1, 2, 7, 8, 16, 30, 50])
def test_the_grid_is_that_of_euler_discrete(scheduler: EulerDiscreteScheduler, num_steps: int) -> None:
    _, schedule = read_schedule(scheduler)
    scheduler.set_timesteps(num_steps)
    ratios = torch.tensor([t / (1 - t) for t in schedule.grid(num_steps)])
    torch.testing.assert_close(torch.tensor(schedule.timesteps(num_steps)), scheduler.timesteps)
    torch.testing.assert_close(ratios, scheduler.sigmas, rtol=1e-6, atol=0)


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
@pytest.mark.parametrize("num_steps", [1, 2, 8, 30])
def test_karras_noise_levels_are_those_of_euler_discrete(spacing: str, num_steps: int) -> None:
    scheduler = tiny_scheduler(spacing=spacing, karras=True)
    _, schedule = read_schedule(scheduler)
    scheduler.set_timesteps(num_steps)
    ratios = torch.tensor([t / (1 - t) for t in schedule.grid(num_steps)])
    torch.testing.assert_close(ratios, scheduler.sigmas, rtol=1e-5, atol=0)
    # diffusers looks its timesteps up in float32
    torch.testing.assert_close(
        torch.tensor(schedule.timesteps(num_steps)), scheduler.timesteps, rtol=1e-5, atol=1e-2
    )
    start = schedule.start_scale(t := schedule.grid(num_steps)[0]) / (1 - t)
    assert start == pytest.approx(float(scheduler.init_noise_sigma), rel=1e-5)


@pytest.mark.parametrize(
    ("option", "value"),
    [("use_beta_sigmas", True), ("interpolation_type", "log_linear"), ("sigma_max", 20.0)],
)
def test_noise_levels_that_are_not_drawn_are_refused_by_name(option: str, value: object) -> None:
    scheduler = tiny_scheduler()
    scheduler.register_to_config(**{option: value})
    with pytest.raises(ValueError, match=f"noise levels by {option}={value!r}, which FlowGRPO does not draw"):
        read_schedule(scheduler)


@pytest.mark.parametrize("num_steps", [1, 8, 16, 50])
def test_the_start_is_that_of_euler_discrete(scheduler: EulerDiscreteScheduler, num_steps: int) -> None:
    _, schedule = read_schedule(scheduler)
    scheduler.set_timesteps(num_steps)
    t = schedule.grid(num_steps)[0]
    # Euler's coordinates are latents_vp / alpha = latents_rf / (1 - t).
    assert schedule.start_scale(t) / (1 - t) == pytest.approx(float(scheduler.init_noise_sigma), rel=1e-6)


def test_a_ddim_pipeline_starts_at_unit_noise() -> None:
    _, schedule = read_schedule(DDIMScheduler(beta_schedule="scaled_linear", timestep_spacing="trailing"))
    t = schedule.grid(8)[0]
    assert schedule.start_scale(t) * flow.vp_scale(t) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("num_steps", [5, 8, 16, 999])
def test_the_network_is_asked_at_the_very_timesteps_it_was_trained_at(num_steps: int) -> None:
    _, schedule = read_schedule(tiny_scheduler())
    assert [schedule.timestep(t) for t in schedule.grid(num_steps)[:-1]] == schedule.timesteps(num_steps)


def test_sd_noise_does_not_end_at_time_one() -> None:
    _, schedule = read_schedule(tiny_scheduler())
    assert schedule.time(999.0) == pytest.approx(0.936, abs=1e-3)


@given(t=times, x0=st.floats(-5, 5), eps=st.floats(-5, 5))
def test_vp_and_rf_are_one_path(t: float, x0: float, eps: float) -> None:
    alpha, sigma = flow.vp_alpha_sigma(t)
    assert alpha**2 + sigma**2 == pytest.approx(1, abs=1e-12)
    assert sigma / (alpha + sigma) == pytest.approx(t, abs=1e-12)
    latents_vp = torch.full((1, 2), alpha * x0 + sigma * eps, dtype=torch.float64)
    latents = flow.to_rf(latents_vp, t)
    assert latents[0, 0].item() == pytest.approx((1 - t) * x0 + t * eps, abs=1e-12)
    torch.testing.assert_close(flow.to_vp(latents, t), latents_vp, rtol=0, atol=1e-12)


@given(t=times, x0=st.floats(-5, 5), eps=st.floats(-5, 5))
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_every_prediction_gives_the_velocity_eps_minus_x0(
    kind: flow.Prediction, t: float, x0: float, eps: float
) -> None:
    alpha, sigma = flow.vp_alpha_sigma(t)
    predicted = {"epsilon": eps, "v_prediction": alpha * eps - sigma * x0, "sample": x0}[kind]
    latents = torch.full((1, 1), (1 - t) * x0 + t * eps, dtype=torch.float64)
    velocity = flow.velocity_from(torch.full_like(latents, predicted), latents, t, kind)
    assert velocity.item() == pytest.approx(eps - x0, abs=1e-10)
    assert flow.x0_hat(latents, velocity, t).item() == pytest.approx(x0, abs=1e-10)
    assert flow.eps_hat(latents, velocity, t).item() == pytest.approx(eps, abs=1e-10)


@given(timestep=st.floats(0, 999))
def test_time_and_timestep_are_inverse(timestep: float) -> None:
    _, schedule = read_schedule(tiny_scheduler())
    assert math.isclose(schedule.timestep(schedule.time(timestep)), timestep, abs_tol=2e-6)


def test_a_step_count_out_of_range_is_refused_with_a_sentence() -> None:
    _, schedule = read_schedule(tiny_scheduler())
    for num_steps in (0, 1001):
        with pytest.raises(ValueError, match="num_steps must be between 1 and 1000"):
            schedule.grid(num_steps)


def test_a_schedule_that_is_not_variance_preserving_is_refused_with_a_sentence() -> None:
    with pytest.raises(ValueError, match="no variance-preserving schedule"):
        read_schedule(object())
    with pytest.raises(ValueError, match="timestep_spacing must be"):
        flow.VPSchedule.from_alphas_cumprod([0.9, 0.5], spacing="karras")

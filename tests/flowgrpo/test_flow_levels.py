"""The noise levels of flow models, held against diffusers' scheduler as its pipelines set it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from hypothesis import given
from hypothesis import strategies as st

from flowgrpo.policies.schedules import read_flow_levels

# diffusers calls numpy in a way that numpy 2 has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

LEVELS: dict[str, dict[str, Any]] = {
    "sd3": {"shift": 3.0},
    "no shift": {"shift": 1.0},
    "strong shift": {"shift": 6.0},
    "flux dev": {"shift": 3.0, "use_dynamic_shifting": True},
    "other ends": {
        "use_dynamic_shifting": True, "base_shift": 0.0, "max_shift": 0.9, "base_image_seq_len": 64,
        "max_image_seq_len": 8192,
    },
    "linear": {"use_dynamic_shifting": True, "time_shift_type": "linear"},
}  # fmt: skip


def of_the_pipeline(
    scheduler: FlowMatchEulerDiscreteScheduler, num_steps: int, num_tokens: int, *, own_ends: bool
) -> torch.Tensor:
    """The levels as StableDiffusion3Pipeline (own ends) and FluxPipeline have them set."""
    config = scheduler.config
    mu = calculate_shift(
        num_tokens, config.base_image_seq_len, config.max_image_seq_len, config.base_shift, config.max_shift
    )
    sigmas = {} if own_ends else {"sigmas": np.linspace(1.0, 1 / num_steps, num_steps)}
    scheduler.set_timesteps(num_steps, mu=mu, **sigmas)
    levels: torch.Tensor = scheduler.sigmas
    return levels


@pytest.mark.parametrize("own_ends", [True, False], ids=["sd3", "flux"])
@pytest.mark.parametrize("name", LEVELS)
@given(num_steps=st.integers(1, 60), num_tokens=st.integers(16, 16384))
def test_the_grid_of_a_flow_model_is_its_pipelines(
    name: str, own_ends: bool, num_steps: int, num_tokens: int
) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(**LEVELS[name])
    schedule = read_flow_levels(scheduler, own_ends=own_ends).at(num_tokens)
    grid = schedule.grid(num_steps)
    theirs = of_the_pipeline(scheduler, num_steps, num_tokens, own_ends=own_ends)
    torch.testing.assert_close(torch.tensor(grid), theirs, rtol=2e-6, atol=1e-7)
    asked = torch.tensor([schedule.timestep(t) for t in grid[:-1]])
    torch.testing.assert_close(asked, scheduler.timesteps, rtol=2e-6, atol=1e-4)
    assert grid[0] == 1  # from noise alone, exactly


def test_sd3s_grid_is_shifted_twice_at_its_end_and_fluxs_once() -> None:
    """The scheduler's own smallest level was shifted when it was made, and is shifted again in a grid."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    *_, sd3, _ = read_flow_levels(scheduler, own_ends=True).schedule.grid(10)
    *_, flux, _ = read_flow_levels(scheduler, own_ends=False).schedule.grid(10)
    assert sd3 == pytest.approx(0.00893, abs=1e-5)
    assert flux == pytest.approx(0.25, abs=1e-12)


def test_a_shift_that_grows_with_the_image_starts_where_its_configuration_says() -> None:
    levels = read_flow_levels(FlowMatchEulerDiscreteScheduler(**LEVELS["flux dev"]), own_ends=False)
    assert levels.at(256).shift == pytest.approx(np.exp(0.5))
    assert levels.at(4096).shift == pytest.approx(np.exp(1.15))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("use_karras_sigmas", True), ("use_exponential_sigmas", True), ("use_beta_sigmas", True),
        ("invert_sigmas", True), ("shift_terminal", 0.02), ("stochastic_sampling", True),
    ],
)  # fmt: skip
def test_flow_levels_that_are_not_drawn_are_refused_by_name(option: str, value: object) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.register_to_config(**{option: value})
    with pytest.raises(ValueError, match=f"noise levels by {option}={value!r}, which FlowGRPO does not draw"):
        read_flow_levels(scheduler, own_ends=True)


def test_a_scheduler_of_another_kind_is_refused_with_a_sentence() -> None:
    with pytest.raises(ValueError, match="FlowMatchHeunDiscreteScheduler is no schedule of a rectified flow"):
        read_flow_levels(FlowMatchHeunDiscreteScheduler(), own_ends=True)

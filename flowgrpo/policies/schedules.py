"""Reads what a network predicts, and the noise levels that it knows, from a scheduler of diffusers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import cast

from flowgrpo import flow
from flowgrpo.policies.karras import KarrasSchedule

PREDICTIONS = ("epsilon", "v_prediction", "sample")
OTHER_LEVELS = {
    "use_exponential_sigmas": False, "use_beta_sigmas": False, "use_lu_lambdas": False,
    "interpolation_type": "linear", "final_sigmas_type": "zero", "timestep_type": "discrete",
    "sigma_min": None, "sigma_max": None,
}  # fmt: skip
"""Options of diffusers' schedulers that choose other noise levels than ours, with the value that does not."""


def read_schedule(scheduler: object) -> tuple[flow.Prediction, flow.VPSchedule]:
    """What the network predicts, and the noise levels it knows, from a VP scheduler of diffusers.

    Raises ValueError for a scheduler of another kind, or one that asks for noise levels that we do not draw.
    """
    config = getattr(scheduler, "config", {})
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS or not hasattr(scheduler, "alphas_cumprod"):
        raise ValueError(
            f"{type(scheduler).__name__} with prediction_type {prediction!r} is no variance-preserving "
            f"schedule; expected one that predicts {', '.join(PREDICTIONS)}"
        )
    for option, usual in OTHER_LEVELS.items():
        if config.get(option, usual) != usual:
            raise ValueError(
                f"the scheduler asks for noise levels by {option}={config[option]!r}, which FlowGRPO "
                f"does not draw: set it to {usual!r} in scheduler_config.json or choose another model"
            )
    spacing = config.get("timestep_spacing", "leading")
    starts_at_sigma = type(scheduler).__name__ == "EulerDiscreteScheduler" and spacing != "leading"
    family = KarrasSchedule if config.get("use_karras_sigmas") else flow.VPSchedule
    schedule = family.from_alphas_cumprod(
        scheduler.alphas_cumprod.tolist(),
        spacing,
        int(config.get("steps_offset", 0)),
        unit_start=not starts_at_sigma,
    )
    return cast(flow.Prediction, prediction), schedule


FLOW_LEVELS = {
    "use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False,
    "invert_sigmas": False, "shift_terminal": None, "stochastic_sampling": False,
}  # fmt: skip
"""Options of FlowMatchEulerDiscrete that choose other noise levels than ours; the value that does not."""


@dataclass(frozen=True)
class DynamicShift:
    """A shift that grows with the image: mu is linear in the number of tokens, k = exp(mu) or mu."""

    base_tokens: int
    max_tokens: int
    base_shift: float
    max_shift: float
    is_exponential: bool

    def at(self, num_tokens: int) -> float:
        """k for an image of so many tokens."""
        slope = (self.max_shift - self.base_shift) / (self.max_tokens - self.base_tokens)
        mu = self.base_shift + slope * (num_tokens - self.base_tokens)
        return math.exp(mu) if self.is_exponential else mu


@dataclass(frozen=True)
class FlowLevels:
    """The noise levels of a flow model, at any size of image."""

    schedule: flow.RFSchedule
    dynamic: DynamicShift | None

    def at(self, num_tokens: int) -> flow.RFSchedule:
        """The schedule for images of so many tokens."""
        if self.dynamic is None:
            return self.schedule
        return replace(self.schedule, shift=self.dynamic.at(num_tokens))


def read_flow_levels(scheduler: object, *, own_ends: bool) -> FlowLevels:
    """The noise levels of FlowMatchEulerDiscrete.

    own_ends: the pipeline lets the scheduler choose the ends of the grid (SD3): from 1 down to its smallest
        training time, which was shifted once already; otherwise from 1 down to 1 / num_steps (FLUX).

    Raises ValueError for a scheduler of another kind, or one that asks for noise levels that we do not draw.
    """
    config = getattr(scheduler, "config", {})
    if type(scheduler).__name__ != "FlowMatchEulerDiscreteScheduler":
        raise ValueError(
            f"{type(scheduler).__name__} is no schedule of a rectified flow; "
            "expected FlowMatchEulerDiscreteScheduler in scheduler_config.json"
        )
    for option, usual in FLOW_LEVELS.items():
        if config.get(option, usual) != usual:
            raise ValueError(
                f"the scheduler asks for noise levels by {option}={config[option]!r}, which FlowGRPO "
                f"does not draw: set it to {usual!r} in scheduler_config.json or choose another model"
            )
    total, is_dynamic = int(config["num_train_timesteps"]), bool(config.get("use_dynamic_shifting"))
    shift = 1.0 if is_dynamic else float(config.get("shift", 1.0))
    last = flow.shifted(1 / total, shift) if own_ends else None
    return FlowLevels(flow.RFSchedule(shift, (1.0, last), total), _dynamic(config) if is_dynamic else None)


def _dynamic(config: dict[str, object]) -> DynamicShift:
    def number(name: str, usual: float) -> float:
        return float(cast(float, config.get(name, usual)))

    return DynamicShift(
        int(number("base_image_seq_len", 256.0)),
        int(number("max_image_seq_len", 4096.0)),
        number("base_shift", 0.5),
        number("max_shift", 1.15),
        config.get("time_shift_type", "exponential") == "exponential",
    )

"""Reads what a network predicts, and the noise levels that it knows, from a scheduler of diffusers."""

from __future__ import annotations

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

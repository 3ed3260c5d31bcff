"""How a family of models is driven. `load_policy` looks at what a source is and picks the driver."""

from __future__ import annotations

from pathlib import Path

import diffusers
import torch
from torch import nn

from flowgrpo import families
from flowgrpo.policies.base import Conditioning, Policy
from flowgrpo.policies.flux import FluxPolicy
from flowgrpo.policies.opening import open_pipeline
from flowgrpo.policies.sd3 import SD3Policy
from flowgrpo.policies.source import find
from flowgrpo.policies.unet import SD15Policy, SDXLPolicy

__all__ = ["FAMILIES", "Conditioning", "Policy", "load_policy"]

_DRIVERS: tuple[type[SD15Policy | SDXLPolicy | SD3Policy | FluxPolicy], ...] = (
    SD15Policy,
    SDXLPolicy,
    SD3Policy,
    FluxPolicy,
)
FAMILIES = {families.FAMILIES[driver.family].pipeline: driver for driver in _DRIVERS}
"""Pipeline class to its driver."""


def load_policy(
    source: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    prediction: str | None = None,
    config: str | Path | None = None,
) -> Policy:
    """The policy of a base, frozen and ready to sample.

    Args:
        source: a diffusers folder, a .safetensors file, or a hub id (`owner/name`, `owner/name@revision`).
        dtype: of the network's weights; float32 on a CPU and bfloat16 elsewhere by default.
        revision: of a hub id.
        prediction, config: of a single file, see `open_pipeline`.

    Raises LookupError where there is nothing at `source`, ValueError where it is not a family that we drive,
    or its weights are damaged.
    """
    device = torch.device(device)
    dtype = dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
    found = find(source, revision)
    if found.pipeline not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise ValueError(f"{source} is a {found.pipeline}; FlowGRPO can drive {known}: choose such a model")
    pipeline_class = getattr(diffusers, found.pipeline)
    pipeline = open_pipeline(pipeline_class, found, dtype, prediction=prediction, config=config)
    policy = FAMILIES[found.pipeline](pipeline, device)
    _refuse_non_finite(policy, source)
    return policy


def _refuse_non_finite(policy: Policy, source: str | Path) -> None:
    """A NaN in a weight would blacken every image, and nobody would know why."""
    for part, module in policy.pipeline.components.items():
        weights = module.named_parameters() if isinstance(module, nn.Module) else ()
        for name, weight in weights:
            if not weight.isfinite().all():
                raise ValueError(
                    f"{name} in the {part} of {source} holds numbers that are not finite: get the model again"
                )

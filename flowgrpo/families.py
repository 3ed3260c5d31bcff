"""The families of models that there are drivers for, and what other programs call them. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True)
class Family:
    """One family of bases.

    Attributes:
        pipeline: diffusers' class of it.
        part: of the pipeline, the one that learns.
        network: diffusers' class of that part.
        architecture: what ModelSpec calls it, where its variants have no names of their own.
        kohya: the base's version in the header of an adapter.
        side: pixels that the published bases draw.
    """

    pipeline: str
    part: Literal["unet", "transformer"]
    network: str
    architecture: str
    kohya: str
    side: int = 1024


FAMILIES: Final[Mapping[str, Family]] = {
    "sd15": Family(
        "StableDiffusionPipeline", "unet", "UNet2DConditionModel", "stable-diffusion-v1", "sd_v1", side=512
    ),
    "sdxl": Family(
        "StableDiffusionXLPipeline", "unet", "UNet2DConditionModel", "stable-diffusion-xl-v1-base",
        "sdxl_base_v1-0",
    ),
    "sd3": Family(
        "StableDiffusion3Pipeline", "transformer", "SD3Transformer2DModel", "stable-diffusion-3", "sd3"
    ),
    "flux": Family("FluxPipeline", "transformer", "FluxTransformer2DModel", "flux-1", "flux1"),
}  # fmt: skip
"""By the name that is stored with a base."""
UNETS: Final = tuple(name for name, family in FAMILIES.items() if family.part == "unet")

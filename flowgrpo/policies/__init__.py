"""How a family of models is driven. `load_policy` looks at what a source is and picks the driver."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from flowgrpo.policies.base import Conditioning, Policy
from flowgrpo.policies.unet import UNetPolicy

__all__ = ["Conditioning", "Policy", "load_policy"]

INDEX = "model_index.json"
FAMILIES: dict[str, type[UNetPolicy]] = {"StableDiffusionXLPipeline": UNetPolicy}
"""Pipeline class named by the index, to its driver."""


def load_policy(
    source: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> Policy:
    """The policy of a diffusers folder or a hub id, frozen and ready to sample.

    dtype: of the network's weights; float32 on a CPU and bfloat16 elsewhere by default. Raises LookupError
    where there is nothing at `source`, ValueError where the family is not one that we drive.
    """
    device = torch.device(device)
    dtype = dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
    family = json.loads(_index_path(source).read_text()).get("_class_name")
    if family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise ValueError(f"{source} is a {family}; FlowGRPO can drive {known}: choose such a model")
    return FAMILIES[family].load(source, device=device, dtype=dtype)


def _index_path(source: str | Path) -> Path:
    folder = Path(source)
    if folder.is_dir():
        if not (folder / INDEX).is_file():
            raise LookupError(f"{source} has no {INDEX}, so it is no diffusers folder: name one that has")
        return folder / INDEX
    if isinstance(source, Path) or source.startswith((".", "/")) or source.count("/") != 1:
        raise LookupError(
            f"there is no folder {source}: name a diffusers folder or a hub id such as owner/name"
        )
    try:
        return Path(hf_hub_download(source, INDEX))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise LookupError(f"{source} is neither a folder nor a model that the hub gave: {error}") from error

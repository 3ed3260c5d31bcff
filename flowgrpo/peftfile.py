"""Adapters as PEFT keeps them: `adapter_model.safetensors`, and beside it the settings with its scale."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from torch import Tensor

PREFIX: Final = "base_model.model."
"""Before every name of a tensor."""
WEIGHTS: Final = "adapter_model.safetensors"
SETTINGS: Final = "adapter_config.json"
MAX_SETTINGS: Final = 2**20
"""Bytes that are read of them."""
_OTHER: Final = ("use_dora", "alpha_pattern", "lora_bias", "trainable_token_indices", "modules_to_save")
"""Settings of adapters that are more than A, B and one scale."""


def weights_in(folder: Path) -> Path:
    """The weights of a PEFT folder; LookupError where there are none, or a pickle alone."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise LookupError(
            f"{folder} holds no {WEIGHTS}: name a folder that PEFT wrote with safetensors, or one "
            ".safetensors file"
        )
    return path


def is_peft(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the names are PEFT's."""
    return any(name.startswith(PREFIX) for name in tensors)


def plain(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by their module's own name, float32, with the scale folded into B.

    Raises ValueError where the settings are not beside the file, or ask for more than a plain LoRA.
    """
    settings = _settings(path)
    found: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name = key.removeprefix(PREFIX)
        scale = _scale(settings, tensor.shape[1], path) if ".lora_B" in name else 1.0
        found[name] = tensor.float() * scale
    return found


def _settings(path: Path) -> dict[str, Any]:
    beside = path.with_name(SETTINGS)
    if not beside.is_file():
        raise ValueError(
            f"{path.name} is an adapter of PEFT, whose strength stands in the {SETTINGS} beside it, and that "
            "is not there: choose the two files together"
        )
    try:
        with beside.open("rb") as file:
            settings = json.loads(file.read(MAX_SETTINGS))
        if not isinstance(settings, dict):
            raise ValueError("it is no object")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the {SETTINGS} of {path.name} cannot be read: get it again ({error})") from error
    kind = settings.get("peft_type", "LORA")
    odd = next((name for name in _OTHER if settings.get(name)), None)
    if kind != "LORA" or odd:
        raise ValueError(f"{path.name} is no plain LoRA: its settings say {odd or f'peft_type {kind}'}")
    return settings


def _scale(settings: Mapping[str, Any], rank: int, path: Path) -> float:
    """alpha / rank, or alpha / sqrt(rank) of a rank-stabilized one (arXiv 2312.03732)."""
    try:
        alpha = float(settings["lora_alpha"])
        if not 0 < alpha < math.inf:
            raise ValueError(f"lora_alpha is {alpha}")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"the {SETTINGS} of {path.name} names no lora_alpha that could be its scale: get it again "
            f"({error})"
        ) from error
    return alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)

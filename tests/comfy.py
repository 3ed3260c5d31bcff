"""ComfyUI's way with the files of adapters, written anew from what is known of it: which names it takes for a
weight of a network in the first programs' names, and at which scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

State = dict[str, Tensor]
Place = tuple[str, slice]
"""A weight in the first program's names, and the rows of it that a module of diffusers is."""
HALVES = ((".lora_up.weight", ".lora_down.weight"), (".lora_B.weight", ".lora_A.weight"))
NETWORK = "model.diffusion_model."


def places(state: State, convert: Callable[[State], State]) -> dict[str, Place]:
    """Each module of diffusers to where its weight is, told by numbers that went through the conversion."""
    modules = [name for name, tensor in state.items() if name.endswith(".weight") and tensor.dim() > 1]
    numbered = state | {name: torch.full_like(state[name], 1.0 + at) for at, name in enumerate(modules)}
    found: dict[str, Place] = {}
    for key, tensor in convert(numbered).items():
        if tensor.dim() < 2:
            continue
        rows = tensor.flatten(1)[:, 0]
        for number in rows.unique().tolist():
            here = (rows == number).nonzero().flatten()
            if 0 < number <= len(modules):
                name = modules[int(number) - 1].removesuffix(".weight")
                found[name] = key, slice(int(here[0]), int(here[-1]) + 1)
    return found


def names_of(native: State, known: Mapping[str, Place], *, is_unet: bool) -> dict[str, Place]:
    """What a file may call a module."""
    named: dict[str, Place] = {}
    for key in native:
        if key.endswith(".weight"):
            module = key.removeprefix(NETWORK).removesuffix(".weight")
            named["lora_unet_" + module.replace(".", "_")] = key, slice(None)
    for module, place in known.items():
        underscored = module.replace(".", "_")
        prefix = "unet" if is_unet else "transformer"
        named[f"{prefix}.{module}"] = place
        named[("lora_unet_" if is_unet else "lora_transformer_") + underscored] = place
    return named


def merged(native: State, file: State, named: Mapping[str, Place]) -> State:
    """The weights with a file in them at strength 1; fails where a key of the file is not loaded."""
    weights, left = {name: tensor.clone() for name, tensor in native.items()}, dict(file)
    for name, (key, rows) in named.items():
        alpha = left.pop(f"{name}.alpha", None)
        for up, down in HALVES:
            if name + up in left:
                high, low = left.pop(name + up), left.pop(name + down)
                scale = 1.0 if alpha is None else float(alpha) / low.shape[0]
                change = scale * (high.flatten(1) @ low.flatten(1))
                weights[key][rows] += change.view_as(weights[key][rows])
    assert not left, f"lora key not loaded: {sorted(left)[:3]}"
    return weights

"""FLUX.1's modules in the names of its first program, which ComfyUI and kohya keep, and in diffusers'.

diffusers has a converter too, which knows networks of one width alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_TIME = "time_text_embed."
_OUTER: dict[str, tuple[str, ...]] = {
    "img_in": ("x_embedder",),
    "txt_in": ("context_embedder",),
    "time_in.in_layer": (f"{_TIME}timestep_embedder.linear_1",),
    "time_in.out_layer": (f"{_TIME}timestep_embedder.linear_2",),
    "vector_in.in_layer": (f"{_TIME}text_embedder.linear_1",),
    "vector_in.out_layer": (f"{_TIME}text_embedder.linear_2",),
    "guidance_in.in_layer": (f"{_TIME}guidance_embedder.linear_1",),
    "guidance_in.out_layer": (f"{_TIME}guidance_embedder.linear_2",),
    "final_layer.linear": ("proj_out",),
    "final_layer.adaLN_modulation.1": ("norm_out.linear",),
}
_DOUBLE: dict[str, tuple[str, ...]] = {
    "img_mod.lin": ("norm1.linear",),
    "txt_mod.lin": ("norm1_context.linear",),
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "img_attn.norm.query_norm": ("attn.norm_q",),
    "img_attn.norm.key_norm": ("attn.norm_k",),
    "txt_attn.norm.query_norm": ("attn.norm_added_q",),
    "txt_attn.norm.key_norm": ("attn.norm_added_k",),
    "img_attn.proj": ("attn.to_out.0",),
    "txt_attn.proj": ("attn.to_add_out",),
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
}
_SINGLE: dict[str, tuple[str, ...]] = {
    "modulation.lin": ("norm.linear",),
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
    "norm.query_norm": ("attn.norm_q",),
    "norm.key_norm": ("attn.norm_k",),
}
_BLOCK = re.compile(r"(double|single)_blocks\.(\d+)\.(.+)")
_PART = re.compile(r"(single_)?transformer_blocks\.(\d+)\.(.+)")


def to_diffusers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors in diffusers' names; joint projections are taken apart.

    Raises ValueError for a name that FLUX.1 has not.
    """
    width = state["img_in.weight"].shape[0]
    converted: dict[str, Tensor] = {}
    for name, tensor in state.items():
        module, _, kind = name.rpartition(".")
        targets = parts_of(module)
        if not targets:
            raise ValueError(f"FLUX.1 has no tensor {name}")
        if module.startswith("final_layer.adaLN"):  # shift and scale there, scale and shift here
            tensor = torch.cat(tensor.chunk(2)[::-1])
        if len(tensor) < width * (len(targets) - 1):
            raise ValueError(f"{name} has {len(tensor)} rows, too few for a network of width {width}")
        sizes = [width] * (len(targets) - 1) + [len(tensor) - width * (len(targets) - 1)]
        for target, piece in zip(targets, tensor.split(sizes), strict=True):
            converted[f"{target}.{'weight' if kind == 'scale' else kind}"] = piece
    return converted


def parts_of(module: str) -> tuple[str, ...]:
    """Modules of diffusers that one of the first program is, in the order of its rows; none for one that is
    not known.
    """
    found = _BLOCK.fullmatch(module)
    if found is None:
        return _OUTER.get(module, ())
    table, blocks = (_DOUBLE, "transformer_blocks") if found[1] == "double" else \
        (_SINGLE, "single_transformer_blocks")  # fmt: skip
    return tuple(f"{blocks}.{found[2]}.{target}" for target in table.get(found[3], ()))


def module_of(part: str) -> str | None:
    """The inverse: the module of the first program that one of diffusers is, or is a part of."""
    found = _PART.fullmatch(part)
    if found is None:
        return _first(_OUTER, part)
    table, blocks = (_SINGLE, "single_blocks") if found[1] else (_DOUBLE, "double_blocks")
    inner = _first(table, found[3])
    return inner and f"{blocks}.{found[2]}.{inner}"


def _first(table: Mapping[str, tuple[str, ...]], part: str) -> str | None:
    return next((module for module, parts in table.items() if part in parts), None)

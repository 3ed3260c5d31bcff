"""SD3's modules in the names of its first program, which ComfyUI and kohya keep, and in diffusers'.

Whole networks are renamed by diffusers' own converter (`flowgrpo.policies.onefile`); this is about adapters.
Modulations whose halves change places between the two are left out: `norm_out`, `norm1_context`.
"""

from __future__ import annotations

import re

_TIME = "time_text_embed."
_OUTER: dict[str, str] = {
    "x_embedder.proj": "pos_embed.proj",
    "context_embedder": "context_embedder",
    "t_embedder.mlp.0": f"{_TIME}timestep_embedder.linear_1",
    "t_embedder.mlp.2": f"{_TIME}timestep_embedder.linear_2",
    "y_embedder.mlp.0": f"{_TIME}text_embedder.linear_1",
    "y_embedder.mlp.2": f"{_TIME}text_embedder.linear_2",
    "final_layer.linear": "proj_out",
}
_BLOCK: dict[str, tuple[str, ...]] = {
    "x_block.attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
    "context_block.attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "x_block.attn.proj": ("attn.to_out.0",),
    "x_block.attn2.proj": ("attn2.to_out.0",),
    "context_block.attn.proj": ("attn.to_add_out",),
    "x_block.mlp.fc1": ("ff.net.0.proj",),
    "x_block.mlp.fc2": ("ff.net.2",),
    "context_block.mlp.fc1": ("ff_context.net.0.proj",),
    "context_block.mlp.fc2": ("ff_context.net.2",),
    "x_block.adaLN_modulation.1": ("norm1.linear",),
}
_JOINT = re.compile(r"joint_blocks\.(\d+)\.(.+)")
_PART = re.compile(r"transformer_blocks\.(\d+)\.(.+)")


def parts_of(module: str) -> tuple[str, ...]:
    """Modules of diffusers that one of the first program is, in the order of its rows; none for one that is
    not known.
    """
    found = _JOINT.fullmatch(module)
    if found is None:
        return (_OUTER[module],) if module in _OUTER else ()
    return tuple(f"transformer_blocks.{found[1]}.{part}" for part in _BLOCK.get(found[2], ()))


def module_of(part: str) -> str | None:
    """The inverse: the module of the first program that one of diffusers is, or is a part of."""
    found = _PART.fullmatch(part)
    if found is None:
        return next((module for module, one in _OUTER.items() if one == part), None)
    inner = next((module for module, parts in _BLOCK.items() if found[2] in parts), None)
    return inner and f"joint_blocks.{found[1]}.{inner}"

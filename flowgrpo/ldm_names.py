"""SD 1.5 and SDXL in the names of Stability's own code: one file of all parts, for A1111 and ComfyUI."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

State = dict[str, Tensor]
NETWORK: Final = "model.diffusion_model."
VAE: Final = "first_stage_model."
_RESNET: Final = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip
_OUTER: Final = {
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
    "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}  # fmt: skip
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)")
_VAE_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|downsamplers|upsamplers)\.(\d+)")
_VAE_WORDS: Final = {
    "conv_norm_out": "norm_out", "conv_shortcut": "nin_shortcut", "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2", "mid_block.attentions.0.group_norm": "mid.attn_1.norm",
    "mid_block.attentions.0.to_out.0": "mid.attn_1.proj_out", "mid_block.attentions.0.to_": "mid.attn_1.",
}  # fmt: skip
_POINTWISE = re.compile(r"\.mid\.attn_1\.(q|k|v|proj_out)\.weight$")
"""Linear layers of diffusers' VAE that are convolutions of one pixel there."""
_OPEN_CLIP: Final = {
    "encoder.layers.": "transformer.resblocks.", "layer_norm1": "ln_1", "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj", "self_attn.out_proj": "attn.out_proj",
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding": "token_embedding", "final_layer_norm": "ln_final",
}  # fmt: skip


def unet_module(module: str, layers_per_block: int = 2, *, is_attended: bool = True) -> str:
    """Diffusers counts layers inside blocks, Stability's code counts all of them in one row.

    Args:
        is_attended: whether the block of an upsampler has attention, which then stands before it.
    """
    match = _BLOCK.match(module)
    if match is None:
        start = next((one for one in _OUTER if module == one or module.startswith(f"{one}.")), "")
        return _inner(_OUTER.get(start, "") + module.removeprefix(start))
    way, block, kind, layer = match[1], int(match[2]), match[3], int(match[4])
    row = block * (layers_per_block + 1)
    rest = module[match.end() :]
    if kind == "downsamplers":
        return f"input_blocks.{row + layers_per_block + 1}.0.op" + rest.removeprefix(".conv")
    if kind == "upsamplers":
        return f"output_blocks.{row + layers_per_block}.{1 + is_attended}{rest}"
    first = f"input_blocks.{row + layer + 1}" if way == "down" else f"output_blocks.{row + layer}"
    return _inner(f"{first}.{int(kind == 'attentions')}{rest}")


def _inner(name: str) -> str:
    head, _, last = name.rpartition(".")
    return name if ".transformer_blocks." in name or last not in _RESNET else f"{head}.{_RESNET[last]}"


def one_file(pipeline: Any) -> State:
    """All weights of a pipeline of SD 1.5 or SDXL, on the CPU, in the names of one file."""
    tensors = _unet(pipeline.unet.state_dict(), int(pipeline.unet.config.layers_per_block))
    tensors |= _vae(pipeline.vae.state_dict(), len(pipeline.vae.config.block_out_channels))
    if hasattr(pipeline, "text_encoder_2"):
        tensors |= _clip(pipeline.text_encoder.state_dict(), "conditioner.embedders.0.transformer.")
        tensors |= _open_clip(pipeline.text_encoder_2.state_dict(), "conditioner.embedders.1.model.")
    else:
        tensors |= _clip(pipeline.text_encoder.state_dict(), "cond_stage_model.transformer.")
    tensors |= _marks(pipeline.scheduler.config)
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def _marks(scheduler: Mapping[str, Any]) -> State:
    """Empty tensors by which programs know what the network predicts."""
    marks = {
        "v_pred": scheduler.get("prediction_type") == "v_prediction",
        "ztsnr": bool(scheduler.get("rescale_betas_zero_snr")),
    }
    return {name: torch.empty(0) for name, is_so in marks.items() if is_so}


def _unet(state: Mapping[str, Tensor], layers_per_block: int) -> State:
    attended = {name.partition(".attentions.")[0] for name in state if ".attentions." in name}
    found: State = {}
    for name, tensor in state.items():
        module, _, kind = name.rpartition(".")
        has_attention = module.partition(".upsamplers.")[0] in attended
        new = unet_module(module, layers_per_block, is_attended=has_attention)
        found[f"{NETWORK}{new}.{kind}"] = tensor
    return found


def _vae(state: Mapping[str, Tensor], depth: int) -> State:
    def block(match: re.Match[str]) -> str:
        level = int(match[2]) if match[1] == "down" else depth - 1 - int(match[2])
        what = f"block.{match[4]}" if match[3] == "resnets" else f"{match[1]}sample"
        return f"{match[1]}.{level}.{what}"

    def rename(name: str) -> str:
        return _replaced(_VAE_BLOCK.sub(block, name), _VAE_WORDS)

    found = {VAE + rename(name): tensor for name, tensor in state.items()}
    return {name: t[:, :, None, None] if _POINTWISE.search(name) else t for name, t in found.items()}


def _clip(state: Mapping[str, Tensor], prefix: str) -> State:
    """Since transformers 5 some names have lost their first part."""
    return {f"{prefix}text_model.{name.removeprefix('text_model.')}": t for name, t in state.items()}


def _open_clip(state: Mapping[str, Tensor], prefix: str) -> State:
    """Queries, keys and values of a layer are one tensor there, and the projection is turned."""
    plain = {name.removeprefix("text_model."): tensor for name, tensor in state.items()}
    found: State = {}
    for name, tensor in plain.items():
        if name == "text_projection.weight":
            found[f"{prefix}text_projection"] = tensor.T
        elif ".self_attn.q_proj." in name:
            three = torch.cat([plain[name.replace("q_proj", f"{one}_proj")] for one in "qkv"])
            joined = name.replace("self_attn.q_proj.", "attn.in_proj_")
            found[prefix + _replaced(joined, _OPEN_CLIP)] = three
        elif not re.search(r"\.self_attn\.[kv]_proj\.", name):
            found[prefix + _replaced(name, _OPEN_CLIP)] = tensor
    return found


def _replaced(name: str, words: Mapping[str, str]) -> str:
    for old, new in words.items():
        name = name.replace(old, new)
    return name

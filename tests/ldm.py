"""Writes a diffusers folder as the one file that users share, in the names of the first Stable Diffusion."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from safetensors.torch import save_file
from torch import Tensor

State = dict[str, Tensor]
OUTER = {
    "conv_in.": "input_blocks.0.0.", "conv_norm_out.": "out.0.", "conv_out.": "out.2.",
    "time_embedding.linear_1.": "time_embed.0.", "time_embedding.linear_2.": "time_embed.2.",
    "add_embedding.linear_1.": "label_emb.0.0.", "add_embedding.linear_2.": "label_emb.0.2.",
}  # fmt: skip
RESNET = {
    "norm1.": "in_layers.0.", "conv1.": "in_layers.2.", "norm2.": "out_layers.0.", "conv2.": "out_layers.3.",
    "time_emb_proj.": "emb_layers.1.", "conv_shortcut.": "skip_connection.",
}  # fmt: skip
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = {
    "encoder.layers.": "transformer.resblocks.", "layer_norm1": "ln_1", "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj", "self_attn.out_proj": "attn.out_proj",
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding": "token_embedding", "final_layer_norm": "ln_final",
}  # fmt: skip


def one_file(folder: Path, path: Path, **more: Any) -> Path:
    """Writes the pipeline of a folder (SD 1.5 or SDXL) as one file.

    more: `metadata` of the file, or tensors to add (`v_pred`), by name.
    """
    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    metadata = more.pop("metadata", None)
    tensors = unet(pipeline.unet.state_dict(), pipeline.unet.config.layers_per_block)
    tensors |= vae(pipeline.vae.state_dict(), len(pipeline.vae.config.block_out_channels))
    if hasattr(pipeline, "text_encoder_2"):
        tensors |= renamed(pipeline.text_encoder.state_dict(), "conditioner.embedders.0.transformer.", clip)
        tensors |= open_clip(pipeline.text_encoder_2.state_dict())
    else:
        tensors |= renamed(pipeline.text_encoder.state_dict(), "cond_stage_model.transformer.", clip)
    save_file({name: t.clone().contiguous() for name, t in (tensors | more).items()}, path, metadata=metadata)
    return path


def renamed(state: State, prefix: str, rename: Callable[[str], str]) -> State:
    return {prefix + rename(name): tensor for name, tensor in state.items()}


def replaced(name: str, table: dict[str, str]) -> str:
    for old, new in table.items():
        name = name.replace(old, new)
    return name


def clip(name: str) -> str:
    """Since transformers 5 the names of one of the two classes have lost their first part."""
    return "text_model." + name.removeprefix("text_model.")


def unet(state: State, layers: int) -> State:
    attended = {name.split(".attentions.")[0] for name in state if ".attentions." in name}

    def block(found: re.Match[str]) -> str:
        way, number, kind, layer = found[1], int(found[2]), found[3], int(found[4])
        first = number * (layers + 1)
        if kind == "downsamplers":
            return f"input_blocks.{first + layers + 1}.0.op."
        if kind == "upsamplers":
            return f"output_blocks.{first + layers}.{1 + (f'up_blocks.{number}' in attended)}."
        blocks, offset = ("input_blocks", 1) if way == "down" else ("output_blocks", 0)
        return f"{blocks}.{first + layer + offset}.{int(kind == 'attentions')}."

    def rename(name: str) -> str:
        for old, new in OUTER.items():
            if name.startswith(old):
                return name.replace(old, new, 1)
        name = re.sub(
            r"^mid_block\.resnets\.(\d)\.", lambda found: f"middle_block.{2 * int(found[1])}.", name
        )
        name = name.replace("mid_block.attentions.0.", "middle_block.1.")
        name = re.sub(r"^(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(?:conv\.(?=\w+$))?", upsampled, name)
        return name if ".transformer_blocks." in name else replaced(name, RESNET)

    def upsampled(found: re.Match[str]) -> str:
        new = block(found)
        return new + "conv." if found[3] == "upsamplers" else new

    return renamed(state, "model.diffusion_model.", rename)


def vae(state: State, depth: int) -> State:
    def rename(name: str) -> str:
        name = re.sub(r"down_blocks\.(\d)\.resnets\.", r"down.\1.block.", name)
        name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0\.", r"down.\1.downsample.", name)
        name = re.sub(r"up_blocks\.(\d)\.resnets\.", lambda f: f"up.{depth - 1 - int(f[1])}.block.", name)
        name = re.sub(
            r"up_blocks\.(\d)\.upsamplers\.0\.", lambda f: f"up.{depth - 1 - int(f[1])}.upsample.", name
        )
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda f: f"mid.block_{int(f[1]) + 1}", name)
        if "mid_block.attentions.0." in name:
            name = replaced(name.replace("mid_block.attentions.0.", "mid.attn_1."), ATTENTION)
        return name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")

    tensors = renamed(state, "first_stage_model.", rename)
    is_projection = re.compile(r"attn_1\.(q|k|v|proj_out)\.weight")
    return {name: t[:, :, None, None] if is_projection.search(name) else t for name, t in tensors.items()}


def open_clip(state: State) -> State:
    """Queries, keys and values of a layer are one tensor, and the projection is turned."""
    tensors: State = {}
    for name, tensor in state.items():
        plain = name.removeprefix("text_model.")
        if plain == "text_projection.weight":
            tensors["text_projection"] = tensor.T
        elif ".q_proj." in plain:
            three = torch.cat(
                [state[name.replace("q_proj", kind)] for kind in ("q_proj", "k_proj", "v_proj")]
            )
            joined = replaced(plain, OPEN_CLIP).replace("self_attn.q_proj.", "attn.in_proj_")
            tensors[joined] = three
        elif ".k_proj." not in plain and ".v_proj." not in plain:
            tensors[replaced(plain, OPEN_CLIP)] = tensor
    return {f"conditioner.embedders.1.model.{name}": tensor for name, tensor in tensors.items()}

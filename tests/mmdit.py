"""Writes a diffusers folder of SD3 or FLUX.1 as one file, in the names of the first programs and ComfyUI."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests import ldm
from tests.tiny_flow import plain, tiny_flux, tiny_sd3

State = dict[str, Tensor]
NETWORK = "model.diffusion_model."
SD3 = {
    "pos_embed.pos_embed": "pos_embed", "pos_embed.proj.": "x_embedder.proj.",
    "time_text_embed.timestep_embedder.linear_1.": "t_embedder.mlp.0.",
    "time_text_embed.timestep_embedder.linear_2.": "t_embedder.mlp.2.",
    "time_text_embed.text_embedder.linear_1.": "y_embedder.mlp.0.",
    "time_text_embed.text_embedder.linear_2.": "y_embedder.mlp.2.",
    "norm_out.linear.": "final_layer.adaLN_modulation.1.", "transformer_blocks.": "joint_blocks.",
    ".norm1.linear.": ".x_block.adaLN_modulation.1.",
    ".norm1_context.linear.": ".context_block.adaLN_modulation.1.",
    ".ff.net.0.proj.": ".x_block.mlp.fc1.", ".ff.net.2.": ".x_block.mlp.fc2.",
    ".ff_context.net.0.proj.": ".context_block.mlp.fc1.", ".ff_context.net.2.": ".context_block.mlp.fc2.",
    ".attn.to_out.0.": ".x_block.attn.proj.", ".attn.to_add_out.": ".context_block.attn.proj.",
    ".attn2.to_out.0.": ".x_block.attn2.proj.",
    ".attn.norm_q.": ".x_block.attn.ln_q.", ".attn.norm_k.": ".x_block.attn.ln_k.",
    ".attn2.norm_q.": ".x_block.attn2.ln_q.", ".attn2.norm_k.": ".x_block.attn2.ln_k.",
    ".attn.norm_added_q.": ".context_block.attn.ln_q.", ".attn.norm_added_k.": ".context_block.attn.ln_k.",
    ".attn.to_q.": ".x_block.attn.qkv.", ".attn2.to_q.": ".x_block.attn2.qkv.",
    ".attn.add_q_proj.": ".context_block.attn.qkv.",
}  # fmt: skip
FLUX = {
    "x_embedder.": "img_in.", "context_embedder.": "txt_in.",
    "time_text_embed.timestep_embedder.": "time_in.", "time_text_embed.text_embedder.": "vector_in.",
    "time_text_embed.guidance_embedder.": "guidance_in.",
    "_in.linear_1": "_in.in_layer", "_in.linear_2": "_in.out_layer",
    "norm_out.linear.": "final_layer.adaLN_modulation.1.",
}  # fmt: skip
FLUX_DOUBLE = {
    ".norm1.linear.": ".img_mod.lin.", ".norm1_context.linear.": ".txt_mod.lin.",
    ".attn.norm_q.weight": ".img_attn.norm.query_norm.scale",
    ".attn.norm_k.weight": ".img_attn.norm.key_norm.scale",
    ".attn.norm_added_q.weight": ".txt_attn.norm.query_norm.scale",
    ".attn.norm_added_k.weight": ".txt_attn.norm.key_norm.scale",
    ".attn.to_out.0.": ".img_attn.proj.", ".attn.to_add_out.": ".txt_attn.proj.",
    ".ff.net.0.proj.": ".img_mlp.0.", ".ff.net.2.": ".img_mlp.2.",
    ".ff_context.net.0.proj.": ".txt_mlp.0.", ".ff_context.net.2.": ".txt_mlp.2.",
    ".attn.to_q.": ".img_attn.qkv.", ".attn.add_q_proj.": ".txt_attn.qkv.",
}  # fmt: skip
FLUX_SINGLE = {
    ".norm.linear.": ".modulation.lin.", ".attn.norm_q.weight": ".norm.query_norm.scale",
    ".attn.norm_k.weight": ".norm.key_norm.scale", ".proj_out.": ".linear2.", ".attn.to_q.": ".linear1.",
}  # fmt: skip
BASES: dict[str, Callable[[Path], Path]] = {
    "sd3": lambda folder: unprojected(tiny_sd3(folder, is_35=False)),
    "sd3.5": lambda folder: unprojected(tiny_sd3(folder)),
    "flux dev": tiny_flux,
    "flux schnell": lambda folder: tiny_flux(folder, guidance_input=False),
}
"""SD3 as it is published, SD3.5 with its second attention, FLUX.1 with guidance as an input and without."""
JOINED = re.compile(r"\.(to_[kv]|add_[kv]_proj|proj_mlp)\.")
"""Projections that are written together with the queries'."""


def one_file(
    folder: Path, path: Path, parts: Collection[str] | None = None, *, prefix: str = NETWORK
) -> Path:
    """Writes parts of a folder's pipeline as one file; all of them where none is named.

    prefix: before the transformer's names; nothing in a file of the transformer alone.
    """
    pipeline = plain(folder)
    is_flux = type(pipeline).__name__ == "FluxPipeline"
    network = flux(pipeline.transformer.state_dict()) if is_flux else sd3(pipeline.transformer.state_dict())
    tensors = {prefix + name: tensor for name, tensor in network.items()}
    others = written(pipeline, "vae." if is_flux else "first_stage_model.")
    for part in others if parts is None else parts:
        tensors |= others[part]
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path)
    return path


def written(pipeline: DiffusionPipeline, vae_prefix: str) -> dict[str, State]:
    """The VAE and text encoders that a pipeline has, in a file's names."""
    vae = ldm.vae(pipeline.vae.state_dict(), len(pipeline.vae.config.block_out_channels))
    found = {"vae": {name.replace("first_stage_model.", vae_prefix): t for name, t in vae.items()}}
    for part in ("text_encoder", "text_encoder_2", "text_encoder_3"):
        encoder = getattr(pipeline, part, None)
        if encoder is None:
            continue
        state = encoder.state_dict()
        if type(encoder).__name__ == "T5EncoderModel":
            state["shared.weight"] = state.pop("encoder.embed_tokens.weight")
            found[part] = ldm.renamed(state, "text_encoders.t5xxl.transformer.", str)
            continue
        which = "clip_l" if part == "text_encoder" else "clip_g"
        found[part] = ldm.renamed(state, f"text_encoders.{which}.transformer.", clip)
        if which == "clip_l":  # SD3's is the identity, and files leave it out
            found[part].pop("text_encoders.clip_l.transformer.text_projection.weight", None)
    return found


def clip(name: str) -> str:
    return name if name.startswith("text_projection.") else ldm.clip(name)


def sd3(state: State) -> State:
    last = max(int(name.split(".")[1]) for name in state if name.startswith("transformer_blocks."))
    turned = ("norm_out.linear.", f"transformer_blocks.{last}.norm1_context.linear.")
    return rewritten(state, turned, lambda name: _last_layer(ldm.replaced(name, SD3)))


def flux(state: State) -> State:
    def rename(name: str) -> str:
        if name.startswith("transformer_blocks."):
            return ldm.replaced(name, FLUX_DOUBLE).replace("transformer_blocks.", "double_blocks.")
        if name.startswith("single_transformer_blocks."):
            return ldm.replaced(name, FLUX_SINGLE).replace("single_transformer_blocks.", "single_blocks.")
        return _last_layer(ldm.replaced(name, FLUX))

    return rewritten(state, ("norm_out.linear.",), rename)


def _last_layer(name: str) -> str:
    return name.replace("proj_out.", "final_layer.linear.") if name.startswith("proj_out.") else name


def rewritten(state: State, turned: tuple[str, ...], rename: Callable[[str], str]) -> State:
    """Queries, keys and values (and FLUX's first half of the MLP) become one tensor; scale and shift of the
    layers that are `turned` change places.
    """
    tensors: State = {}
    for name, tensor in state.items():
        if JOINED.search(name):
            continue
        if name.startswith(turned):
            tensor = torch.cat(tensor.chunk(2)[::-1])
        if ".to_q." in name or ".add_q_proj." in name:
            tensor = torch.cat([state[other] for other in joined(name, state)])
        tensors[rename(name)] = tensor
    return tensors


def joined(name: str, state: State) -> list[str]:
    names = [re.sub(r"(to|add)_q", rf"\1_{letter}", name) for letter in "qkv"]
    mlp = name.replace("attn.to_q", "proj_mlp")
    return [*names, mlp] if name.startswith("single_") and mlp in state else names


def unprojected(folder: Path) -> Path:
    """SD3's first encoder as it is published: the identity projects what it pooled."""
    path = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(path)
    tensors["text_projection.weight"] = torch.eye(len(tensors["text_projection.weight"]))
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


def changed(file: Path, path: Path, change: Callable[[str, Tensor], Tensor | None]) -> Path:
    """A copy of a file with some tensors changed; those that are None are left out."""
    tensors = {name: change(name, tensor) for name, tensor in load_file(file).items()}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)
    return path


def without_weights(folder: Path, copy: Path, *parts: str) -> Path:
    shutil.copytree(folder, copy)
    for part in parts or ("*",):
        for path in copy.glob(f"{part}/*.safetensors"):
            path.unlink()
    return copy

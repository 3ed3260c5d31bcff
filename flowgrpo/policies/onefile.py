"""The parts that one file of SD3 or FLUX.1 holds: the transformer, and often the VAE and text encoders.

The names are those of the first programs, and of ComfyUI. What a file lacks comes from a diffusers folder.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, cast

import diffusers
import torch
import transformers
from accelerate import init_empty_weights
from diffusers.loaders.single_file_utils import (
    convert_ldm_vae_checkpoint,
    convert_sd3_transformer_checkpoint_to_diffusers,
)
from huggingface_hub import hf_hub_download
from safetensors import safe_open
from torch import Tensor, nn

from flowgrpo import flux_names
from flowgrpo.policies.source import Source

State = dict[str, Tensor]
ONE_FILE = ("StableDiffusion3Pipeline", "FluxPipeline")
"""Pipelines whose files may hold some of the parts only."""
NETWORK = "model.diffusion_model."
"""Before the transformer's names, in a file that has other parts."""
VAES = ("first_stage_model.", "vae.")
ENCODERS: dict[str, dict[str, str]] = {
    "StableDiffusion3Pipeline": {
        "text_encoder": "text_encoders.clip_l.transformer.",
        "text_encoder_2": "text_encoders.clip_g.transformer.",
        "text_encoder_3": "text_encoders.t5xxl.transformer.",
    },
    "FluxPipeline": {
        "text_encoder": "text_encoders.clip_l.transformer.",
        "text_encoder_2": "text_encoders.t5xxl.transformer.",
    },
}
"""Part of the pipeline to what stands before its names in a file."""
_FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)


def held_parts(source: Source) -> dict[str, dict[str, str]]:
    """Each part that a file holds, with its tensors: their names without the part's prefix, to the file's."""
    with safe_open(source.where, framework="pt") as opened:
        names = list(opened.keys())
    prefixes = [("vae", prefix) for prefix in VAES] + list(ENCODERS[source.pipeline].items())
    is_alone = not any(name.startswith(NETWORK) for name in names)
    held: dict[str, dict[str, str]] = {"transformer": {}}
    for name in names:
        if name.startswith(NETWORK) or (is_alone and not name.startswith(("text_encoders.", *VAES))):
            held["transformer"][name.removeprefix(NETWORK)] = name
        for part, prefix in prefixes:
            if name.startswith(prefix):
                held.setdefault(part, {})[name.removeprefix(prefix)] = name
    return held


def lacking(held: Collection[str], home: Source) -> list[str]:
    """Parts that neither the file nor the folder has the weights of."""
    folder = Path(home.where)
    if not folder.is_dir():
        return []  # the hub's client says what it cannot get
    wanted = [part for part in ("vae", *ENCODERS[home.pipeline]) if (home.index.get(part) or [None])[0]]
    there = {*held, *_left_out(held, home.pipeline)}
    return [part for part in wanted if part not in there and not any((folder / part).glob("*.safetensors"))]


def _left_out(held: Collection[str], pipeline: str) -> dict[str, None]:
    """A file of SD3 with the two CLIPs is meant to be used with these alone; one without any is not."""
    if pipeline != "StableDiffusion3Pipeline" or "text_encoder_3" in held or "text_encoder" not in held:
        return {}
    return {"text_encoder_3": None, "tokenizer_3": None}


def read_parts(source: Source, home: Source, dtype: torch.dtype) -> dict[str, Any]:
    """The parts of a file as modules on the CPU, built as `home` says; None for what the model goes without.

    Raises ValueError where a tensor is missing, too many, or of another shape.
    """
    held = held_parts(source)
    read: dict[str, Any] = dict(_left_out(held, source.pipeline))
    with safe_open(source.where, framework="pt") as opened:
        for part, names in held.items():
            state = {short: _readable(opened.get_tensor(name)) for short, name in names.items()}
            read[part] = _module(part, state, home, dtype)
    return read


def _readable(tensor: Tensor) -> Tensor:
    """Float8 in bfloat16, which holds all its numbers: torch can hardly compute with the first."""
    return tensor.to(torch.bfloat16) if tensor.dtype in _FLOAT8 else tensor


def _module(part: str, state: State, home: Source, dtype: torch.dtype) -> nn.Module:
    library, name = home.index.get(part) or ("", "")
    if not library:
        raise ValueError(f"the file holds a {part}, of which {home.where} says nothing")
    folder = _config_folder(home, part)
    module: Any
    if library == "transformers":
        model_class = getattr(transformers, name)
        with init_empty_weights():
            module = model_class(model_class.config_class.from_pretrained(folder))
        _fill(module, _encoder_state(state, module, part), dtype)
        module.tie_weights()
        return cast(nn.Module, module)
    model_class = getattr(diffusers, name)
    config = model_class.load_config(folder)
    with init_empty_weights():
        module = model_class.from_config(config)
    if part == "vae":
        state = convert_ldm_vae_checkpoint(state, config)
    else:
        state = NETWORKS[home.pipeline](state)
        more = sorted(set(state) - set(module.state_dict()))
        if more:
            raise ValueError(f"there is no {more[0]} in that configuration")
    _fill(module, state, dtype)
    return cast(nn.Module, module)


def _config_folder(home: Source, part: str) -> Path:
    """The part's folder, or where the hub's cache has its configuration."""
    if Path(home.where).is_dir():
        return Path(home.where) / part
    return Path(hf_hub_download(home.where, f"{part}/config.json", revision=home.revision)).parent


def _sd3_state(state: State) -> State:
    rest = dict(state)
    converted: State = convert_sd3_transformer_checkpoint_to_diffusers(rest)  # takes out what it knows
    if rest:
        raise ValueError(f"SD3 has no tensor {next(iter(rest))}")
    return converted


NETWORKS: dict[str, Callable[[State], State]] = {
    "StableDiffusion3Pipeline": _sd3_state,
    "FluxPipeline": flux_names.to_diffusers,
}
"""Pipeline to what gives the transformer's tensors diffusers' names."""


def _encoder_state(state: State, module: nn.Module, part: str) -> State:
    """Names as the class has them in this release of transformers."""
    words = state.get("shared.weight", state.get("encoder.embed_tokens.weight"))
    if words is not None:  # T5's, one matrix under two names, of which a file may have either
        return state | {"shared.weight": words, "encoder.embed_tokens.weight": words}
    if not hasattr(module, "text_model"):
        state = {name.removeprefix("text_model."): tensor for name, tensor in state.items()}
    elif part == "text_encoder":
        # SD3 uses what CLIP-L pooled without its projection: the published folder has a one here.
        width = state["text_model.final_layer_norm.weight"].shape[0]
        state = state | {"text_projection.weight": torch.eye(width)}
    return state


def _fill(module: nn.Module, state: State, dtype: torch.dtype) -> None:
    """Puts weights in a module that has none. transformers keeps some of T5's in float32: half overflows.

    Raises ValueError for a weight that is missing or of another shape. Some too many are left: programs add
    to text encoders what they like.
    """
    kept = (getattr(module, "_keep_in_fp32_modules", None) or ()) if dtype == torch.float16 else ()
    wanted = module.state_dict()
    for name, tensor in wanted.items():
        if name not in state:
            raise ValueError(f"{name} is missing")
        if tensor.shape != state[name].shape:
            shapes = tuple(tensor.shape), tuple(state[name].shape)
            raise ValueError(f"{name} must have the shape {shapes[0]} and has {shapes[1]}")
        is_kept = any(word in kept for word in name.split("."))
        wanted[name] = state.pop(name).to(torch.float32 if is_kept else dtype)
    module.load_state_dict(wanted, assign=True)

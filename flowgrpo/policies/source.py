"""Where a base is and what it is: a diffusers folder, a hub id at a revision, or one .safetensors file.

The family and what the network predicts are read from the files (the index, the scheduler's configuration,
the names of the tensors, the file's metadata), never guessed from a name.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open

from flowgrpo.tensorfile import refuse_pickle
from flowgrpo.tensorheader import read_header
from flowgrpo.trust import check_parts, checked_commit, hub_id

INDEX = "model_index.json"
_UNET, _VAE = "model.diffusion_model.", "first_stage_model."
_CLIP = "cond_stage_model.transformer.text_model."
SIGNS: tuple[tuple[str, str], ...] = (
    ("double_blocks.0.img_attn.norm.key_norm.scale", "FluxPipeline"),
    (f"{_UNET}double_blocks.0.img_attn.norm.key_norm.scale", "FluxPipeline"),
    ("joint_blocks.0.context_block.adaLN_modulation.1.bias", "StableDiffusion3Pipeline"),
    (f"{_UNET}joint_blocks.0.context_block.adaLN_modulation.1.bias", "StableDiffusion3Pipeline"),
    ("conditioner.embedders.1.model.positional_embedding", "StableDiffusionXLPipeline"),
    (f"{_CLIP}embeddings.position_embedding.weight", "StableDiffusionPipeline"),
)  # fmt: skip
"""A tensor that only files of a family have, and the family's pipeline."""
OTHER_SIGNS: tuple[tuple[str, str], ...] = (
    ("edm_mean", "a Playground v2.5 model, whose noise levels are others"),
    ("edm_vpred.sigma_max", "a CosXL model, whose noise levels are others"),
    ("conditioner.embedders.0.model.positional_embedding", "an SDXL refiner"),
    ("cond_stage_model.model.token_embedding.weight", "a Stable Diffusion 2 model"),
    ("control_model.time_embed.0.weight", "a ControlNet"),
    ("controlnet_cond_embedding.conv_in.weight", "a ControlNet"),
    ("down_blocks.0.resnets.0.conv1.weight", "one part of a diffusers folder: name the folder"),
    ("transformer_blocks.0.attn.to_q.weight", "one part of a diffusers folder: name the folder"),
    ("distilled_guidance_layer.in_proj.bias", "a Chroma model"),
    ("double_stream_modulation_img.lin.weight", "a FLUX.2 model"),
)
"""A tensor that tells what a file is that we do not drive, plain or after `model.diffusion_model.`."""
LORA_MARKS = (".lora_down.", ".lora_A.", ".lora.down.")
SCALED_MARKS = (".scale_weight", ".weight_scale", "scaled_fp8", ".comfy_quant", ".absmax", ".quant_state.")
"""In the names of weights that mean something only together with scales of their own."""
DEPTHS: dict[tuple[int, ...], str] = {
    (2, 2, 10, 10): "stabilityai/stable-diffusion-xl-base-1.0",
    (2, 2, 4, 4): "segmind/SSD-1B",
}
"""Transformer layers of the attentions on SDXL's way down, to whose configuration has them."""
JOINT_DEPTHS: dict[tuple[int, bool], str] = {
    (24, False): "stabilityai/stable-diffusion-3-medium-diffusers",
    (24, True): "stabilityai/stable-diffusion-3.5-medium",
    (38, False): "stabilityai/stable-diffusion-3.5-large",
}
"""SD3's blocks and whether some have a second attention, to whose configuration has them."""
FLUX_DEPTHS: dict[tuple[int, int, bool], str] = {
    (19, 38, True): "black-forest-labs/FLUX.1-dev",
    (19, 38, False): "black-forest-labs/FLUX.1-schnell",
}
"""FLUX.1's double and single blocks and whether guidance is an input, to whose configuration has them."""
PREDICTIONS = {
    "epsilon": "epsilon", "eps": "epsilon", "v": "v_prediction", "v_prediction": "v_prediction"
}  # fmt: skip
"""Words of `modelspec.prediction_type` to ours."""


@dataclass(frozen=True)
class Source:
    """A base that was found.

    Attributes:
        where: What diffusers is given: a folder, a hub id or a file.
        pipeline: Name of the pipeline's class.
        revision: Of a hub id; None is its main branch.
        index: The pipeline's components as `model_index.json` lists them; empty for a file.
        prediction: What a file says that its network predicts; None where it says nothing.
        is_zero_snr: Whether a file says that its noise ends at zero signal.
        config: Whose configuration a file has, as a hub id; None where no published model is built so.
    """

    where: str
    pipeline: str
    revision: str | None = None
    index: dict[str, Any] = field(default_factory=dict)
    prediction: str | None = None
    is_zero_snr: bool = False
    config: str | None = None

    @property
    def is_file(self) -> bool:
        """One file for all weights."""
        return self.where.lower().endswith(".safetensors")


def find(source: str | Path, revision: str | None = None) -> Source:
    """What is at a source.

    Args:
        source: a folder, a file, or a hub id (`owner/name`, or `owner/name@revision`).

    Raises LookupError where there is nothing, ValueError where it is something that cannot be a base.
    """
    path = Path(source)
    refuse_pickle(path)
    if os.path.isfile(path):  # False for a name that no file can have, where pathlib raises
        return _file(path)
    if os.path.isdir(path):
        if not (path / INDEX).is_file():
            raise LookupError(f"{source} has no {INDEX}, so it is no diffusers folder: name one that has")
        return _indexed(str(source), path / INDEX, None)
    return _hub(source, revision)


def _hub(source: str | Path, revision: str | None) -> Source:
    asked = None if isinstance(source, Path) else hub_id(source)
    if asked is None:
        raise LookupError(
            f"there is no folder {str(source)[:200]}: name a diffusers folder, a .safetensors file or a hub "
            "id such as owner/name"
        )
    name, pinned = asked
    revision = revision or pinned
    try:
        index = Path(hf_hub_download(name, INDEX, revision=revision))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise LookupError(f"{source} is neither a folder nor a model that the hub gave: {error}") from error
    # The cache has a folder for each commit: whatever is read later is of this one.
    commit = checked_commit(name, index.parent.name)
    return _indexed(name, index, commit)


def _indexed(where: str, path: Path, revision: str | None) -> Source:
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        name = index["_class_name"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{INDEX} of {where} cannot be read ({error}): get the model again, its copy is damaged"
        ) from error
    check_parts(index, where)
    return Source(where, str(name), revision, index)


def _file(path: Path) -> Source:
    """Reads the header alone: names, shapes and metadata."""
    if path.suffix.lower() != ".safetensors":
        raise ValueError(f"{path.name} is no model: expected a .safetensors file or a diffusers folder")
    read_header(path)
    try:
        with safe_open(path, framework="pt") as opened:
            names, metadata = set(opened.keys()), opened.metadata() or {}
            taken, given = _channels(opened, names)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path.name} is damaged or cut short: get it again ({error})") from error
    pipeline = _pipeline_of(path, names)
    if taken != given:
        raise ValueError(
            f"{path.name} is an inpainting or editing model ({taken} input channels): choose its "
            "text-to-image sibling"
        )
    return Source(
        str(path),
        pipeline,
        prediction=_prediction(names, metadata),
        is_zero_snr="ztsnr" in names,
        config=_config_of(pipeline, names),
    )


def _channels(opened: Any, names: set[str]) -> tuple[int | None, int | None]:
    """What a UNet or FLUX.1 takes, and what one that draws from words alone would take."""

    def size(name: str, axis: int) -> int | None:
        return int(opened.get_slice(name).get_shape()[axis]) if name in names else None

    if f"{_UNET}input_blocks.0.0.weight" in names:
        return size(f"{_UNET}input_blocks.0.0.weight", 1), size(f"{_VAE}decoder.conv_in.weight", 1) or 4
    start = _UNET if f"{_UNET}img_in.weight" in names else ""
    taken = size(f"{start}img_in.weight", 1)
    return taken, taken and (size(f"{start}final_layer.linear.weight", 0) or taken)


def _config_of(pipeline: str, names: set[str]) -> str | None:
    """Hub id of the published model that is built like this one; None where there is none."""
    if pipeline == "StableDiffusionPipeline":
        return "stable-diffusion-v1-5/stable-diffusion-v1-5"
    if pipeline == "StableDiffusionXLPipeline":
        return DEPTHS.get(_depths(names))
    if pipeline == "StableDiffusion3Pipeline":
        has_second = any(".x_block.attn2." in name for name in names)
        return JOINT_DEPTHS.get((_blocks(names, "joint_blocks"), has_second))
    has_guidance = any("guidance_in." in name for name in names)
    return FLUX_DEPTHS.get((_blocks(names, "double_blocks"), _blocks(names, "single_blocks"), has_guidance))


def _blocks(names: set[str], kind: str) -> int:
    """How many blocks of a kind a transformer has."""
    found = (re.match(rf"(?:{_UNET})?{kind}\.(\d+)\.", name) for name in names)
    return len({match[1] for match in found if match})


def _depths(names: set[str]) -> tuple[int, ...]:
    """Transformer layers of the attentions in the input blocks where SDXL has them."""
    found = [re.match(rf"{_UNET}input_blocks\.([4578])\.1\.transformer_blocks\.(\d+)\.", n) for n in names]
    layers = {(match[1], match[2]) for match in found if match}
    return tuple(sum(block == one for block, _ in layers) for one in "4578")


def _pipeline_of(path: Path, names: set[str]) -> str:
    if any(mark in name for name in names for mark in LORA_MARKS):
        raise ValueError(f"{path.name} is a LoRA, not a base: choose the base that it was made for")
    for name, what in OTHER_SIGNS:
        if name in names or f"{_UNET}{name}" in names:
            raise ValueError(f"{path.name} is {what}; FlowGRPO cannot drive it: choose another model")
    scaled = next((name for name in names if any(mark in name for mark in SCALED_MARKS)), None)
    if scaled:
        raise ValueError(
            f"{path.name} holds weights of 8 or 4 bits with scales of their own ({scaled}), which FlowGRPO "
            "does not read: choose the same model in bfloat16, float16 or plain float8"
        )
    for name, pipeline in SIGNS:
        if name in names:
            return pipeline
    raise ValueError(
        f"{path.name} holds none of the models that FlowGRPO can drive (SD 1.5, SDXL, SSD-1B, SD3, FLUX.1): "
        "its tensors have other names"
    )


def _prediction(names: set[str], metadata: dict[str, str]) -> str | None:
    """What the file itself says: the marker tensor `v_pred`, or ModelSpec's metadata."""
    if "v_pred" in names:
        return "v_prediction"
    return PREDICTIONS.get(metadata.get("modelspec.prediction_type", "").lower())

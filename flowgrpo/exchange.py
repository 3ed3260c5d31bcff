"""Adapters in files of other programs: diffusers' layout and kohya's, out and in.

kohya's layout is the one that A1111, Forge and ComfyUI read: `lora_unet_<module>.lora_down.weight`,
`.lora_up.weight` and `.alpha`. Its modules have diffusers' names for SD 1.5 and those of Stability's own code
for SDXL, as kohya's trainer writes them. SD3 and FLUX.1 are shared in diffusers' layout, which ComfyUI reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from flowgrpo import lora
from flowgrpo.config import LoraConfig
from flowgrpo.tensorfile import read_tensors

Layout = Literal["diffusers", "kohya"]
KOHYA = "lora_unet_"
_HALVES = {"lora_A": "lora_down", "lora_B": "lora_up"}
_ARCHITECTURE = {"sd15": "stable-diffusion-v1/lora", "sdxl": "stable-diffusion-xl-v1-base/lora"}
_VERSION = {"sd15": "sd_v1", "sdxl": "sdxl_base_v1-0"}
"""Family to what A1111 shows and sorts by."""
_RESNET = {
    "conv1": "in_layers.2", "conv2": "out_layers.3", "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}  # fmt: skip
_OUTER = {
    "conv_in": "input_blocks.0.0", "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
    "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}  # fmt: skip
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)")


def export(
    path: Path,
    config: LoraConfig,
    tensors: Mapping[str, Tensor],
    *,
    family: str,
    layout: Layout = "diffusers",
    layers_per_block: int = 2,
) -> Path:
    """Writes an adapter as one file with its scale folded into B, so that every reader agrees on it.

    Args:
        family: of the base: sd15, sdxl, sd3, flux.
        layers_per_block: of the base's UNet; all published ones have 2.

    Raises ValueError for kohya's layout of a family that is not shared in it.
    """
    if layout == "diffusers":
        prefix = "unet." if family in _VERSION else "transformer."
        return lora.export(path, config, tensors, prefix)
    if family not in _VERSION:
        raise ValueError(
            f"adapters of {family} are shared in diffusers' layout, which ComfyUI reads too: export with "
            "layout diffusers"
        )
    file: dict[str, Tensor] = {}
    for name, tensor in lora.baked(config, tensors).items():
        module, _, half = name.partition(".lora_")
        key = kohya_name(module, family, layers_per_block)
        file[f"{key}.{_HALVES[f'lora_{half[0]}']}.weight"] = tensor.detach().cpu().contiguous().clone()
        file[f"{key}.alpha"] = torch.tensor(float(config.rank))
    facts = {
        "format": "pt", "ss_network_module": "networks.lora", "ss_network_dim": str(config.rank),
        "ss_network_alpha": str(float(config.rank)), "ss_base_model_version": _VERSION[family],
        "modelspec.architecture": _ARCHITECTURE[family],
    }  # fmt: skip
    save_file(file, path, metadata=facts)
    return path


def kohya_name(module: str, family: str, layers_per_block: int = 2) -> str:
    """What kohya's trainer calls a module of diffusers' UNet."""
    name = _stability_name(module, layers_per_block) if family == "sdxl" else module
    return KOHYA + name.replace(".", "_")


def _stability_name(module: str, layers_per_block: int) -> str:
    """Diffusers counts layers inside blocks, Stability's code counts all of them in one row."""
    match = _BLOCK.match(module)
    if match is None:
        start = next((one for one in _OUTER if module == one or module.startswith(f"{one}.")), "")
        return _inner(_OUTER.get(start, "") + module.removeprefix(start))
    way, block, kind, layer = match[1], int(match[2]), match[3], int(match[4])
    row = block * (layers_per_block + 1)
    rest = module[match.end() :]
    if kind == "downsamplers":
        return f"input_blocks.{row + layers_per_block + 1}.0.op" + rest.removeprefix(".conv")
    if kind == "upsamplers":  # they follow an attention wherever SDXL has one
        return f"output_blocks.{row + layers_per_block}.2{rest}"
    first = f"input_blocks.{row + layer + 1}" if way == "down" else f"output_blocks.{row + layer}"
    return _inner(f"{first}.{int(kind == 'attentions')}{rest}")


def _inner(name: str) -> str:
    head, _, last = name.rpartition(".")
    return f"{head}.{_RESNET[last]}" if last in _RESNET else name


def read(
    path: Path, network: nn.Module, family: str, layers_per_block: int = 2
) -> tuple[LoraConfig, dict[str, Tensor]]:
    """An adapter of another program, for this network; float32, with its scale folded into B.

    Modules of a lower rank than the highest are filled up with zeros, which changes nothing.

    Args:
        network: of the base, without an adapter.

    Raises LookupError where there is no file, ValueError for one that is damaged or does not fit.
    """
    tensors, metadata = read_tensors(path)
    modules = [name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    if any(name.startswith(KOHYA) or name.startswith("lora_te") for name in tensors):
        found = _from_kohya(path, tensors, modules, family, layers_per_block)
    else:
        found = _from_diffusers(path, tensors, metadata)
    _check(path, found, network)
    rank = max(tensor.shape[0] for name, tensor in found.items() if ".lora_A" in name)
    targets = tuple(sorted({name.partition(".lora_")[0] for name in found}))
    filled = {name: _filled(tensor, rank, 0 if ".lora_A" in name else 1) for name, tensor in found.items()}
    return LoraConfig(rank=rank, alpha=float(rank), targets=targets), filled


def _filled(tensor: Tensor, rank: int, axis: int) -> Tensor:
    shape = list(tensor.shape)
    shape[axis] = rank - shape[axis]
    return torch.cat([tensor, tensor.new_zeros(shape)], dim=axis)


def _from_kohya(
    path: Path, tensors: Mapping[str, Tensor], modules: Iterable[str], family: str, layers_per_block: int
) -> dict[str, Tensor]:
    """Names are looked up: underscores hide where a dot was."""
    known = {KOHYA + name.replace(".", "_"): name for name in modules}
    known |= {kohya_name(name, family, layers_per_block): name for name in known.values()}
    found: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        module, _, half = key.partition(".")
        _refuse_text(path, module.startswith("lora_te"))
        if half == "alpha":
            continue
        if half not in ("lora_down.weight", "lora_up.weight"):
            raise ValueError(f"{path.name} is no plain LoRA: it holds {key}")
        if module not in known:
            raise ValueError(f"{path.name} changes {module}, which this model does not have: choose its base")
        if half == "lora_down.weight":
            found[f"{known[module]}.lora_A.weight"] = tensor.float()
        else:
            rank = tensor.shape[1]
            alpha = float(tensors.get(f"{module}.alpha", torch.tensor(rank)))
            found[f"{known[module]}.lora_B.weight"] = tensor.float() * (alpha / max(rank, 1))
    return found


def _from_diffusers(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> dict[str, Tensor]:
    """The scale stands in the metadata; without them it is 1."""
    _refuse_text(path, any(name.startswith("text_encoder") for name in tensors))
    try:
        settings = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except json.JSONDecodeError as error:
        raise ValueError(f"the metadata of {path.name} are damaged: choose another file ({error})") from error
    facts = {key.partition(".")[2]: value for key, value in settings.items()}
    if facts.get("use_rslora") or facts.get("use_dora") or facts.get("alpha_pattern"):
        raise ValueError(
            f"{path.name} is no plain LoRA: its scale is not one number (rsLoRA, DoRA, patterns)"
        )
    found: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name = next((key.removeprefix(one) for one in lora.PREFIXES if key.startswith(one)), key)
        if not re.search(r"\.lora_[AB]\.weight$", name):
            raise ValueError(f"{path.name} is no plain LoRA: it holds {key}")
        rank = max(tensor.shape[1], 1)
        found[name] = tensor.float() * (facts.get("lora_alpha", rank) / rank if ".lora_B" in name else 1.0)
    return found


def _refuse_text(path: Path, has_text: bool) -> None:
    if has_text:
        raise ValueError(
            f"{path.name} changes the text encoders too, which FlowGRPO leaves as they are: use an adapter "
            "of the image network alone"
        )


def _check(path: Path, tensors: Mapping[str, Tensor], network: nn.Module) -> None:
    if not tensors:
        raise ValueError(f"{path.name} holds no adapter")
    for name, tensor in tensors.items():
        if 0 in tensor.shape:
            raise ValueError(f"{path.name} has rank 0 at {name}, so it changes nothing: choose another file")
    lora.check_fit(network, tensors)

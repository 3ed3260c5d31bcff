"""Adapters in files of other programs: diffusers' layout and kohya's, out and in.

kohya's layout is the one that A1111, Forge and ComfyUI read: `lora_unet_<module>.lora_down.weight`,
`.lora_up.weight` and `.alpha`. Its modules have diffusers' names for SD 1.5 and those of the first programs
for SDXL, SD3 and FLUX.1, as kohya's trainers write them (`flowgrpo.joined` for the last two). diffusers reads
it back for all families but SD3. ComfyUI reads diffusers' layout too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeGuard

import torch
from torch import Tensor, nn

from flowgrpo import joined, ldm_names, lora, peftfile
from flowgrpo.config import LoraConfig
from flowgrpo.families import UNETS
from flowgrpo.filefacts import with_hash
from flowgrpo.tensorfile import header_of, read_tensors, write_tensors
from flowgrpo.tensorheader import MAX_RANK, check_adapter

Layout = Literal["diffusers", "kohya"]
KOHYA = "lora_unet_"
MAX_WEIGHT = 10_000.0
"""Of an adapter, scale included; those of trained ones stay below 10."""
KOHYA_DIFFUSERS = "lora_transformer_"
"""Before diffusers' own names of SD3's and FLUX.1's modules, in the files of some trainers."""


def export(
    path: Path,
    config: LoraConfig,
    tensors: Mapping[str, Tensor],
    *,
    family: str,
    layout: Layout = "diffusers",
    layers_per_block: int = 2,
    facts: Mapping[str, str] | None = None,
) -> Path:
    """Writes an adapter as one file with its scale folded into B, so that every reader agrees on it.

    Args:
        family: of the base: sd15, sdxl, sd3, flux.
        layers_per_block: of the base's UNet; all published ones have 2.
        facts: what the header says besides (`flowgrpo.filefacts`); the hash of the weights is added.

    Raises ValueError for a module that has no place in kohya's layout.
    """
    file, header = _in_layout(config, tensors, family, layout, layers_per_block)
    write_tensors(path, file, header | dict(facts or {}))
    if facts:
        write_tensors(path, file, header | with_hash(facts, path))
    return path


def _in_layout(
    config: LoraConfig, tensors: Mapping[str, Tensor], family: str, layout: Layout, layers_per_block: int
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by the layout's names, and what its readers need in the header."""
    if layout == "diffusers":
        return lora.for_diffusers(config, tensors, "unet." if family in UNETS else "transformer.")
    baked = {name: tensor.detach().cpu() for name, tensor in lora.baked(config, tensors).items()}
    if family in UNETS:
        names = dict.fromkeys(name.partition(".lora_")[0] for name in baked)
        pairs = {
            kohya_name(name, family, layers_per_block): tuple(baked[f"{name}.lora_{h}.weight"] for h in "AB")
            for name in names
        }
    else:
        pairs = {_underscored(name): pair for name, pair in joined.join(baked, family).items()}
    file: dict[str, Tensor] = {}
    for key, (low, high) in pairs.items():
        file[f"{key}.lora_down.weight"] = low.contiguous().clone()
        file[f"{key}.lora_up.weight"] = high.contiguous().clone()
        file[f"{key}.alpha"] = torch.tensor(float(low.shape[0]))
    return file, {"format": "pt"}


def _underscored(module: str, prefix: str = KOHYA) -> str:
    return prefix + module.replace(".", "_")


def kohya_name(module: str, family: str, layers_per_block: int = 2) -> str:
    """What kohya's trainer calls a module of diffusers' UNet."""
    name = ldm_names.unet_module(module, layers_per_block) if family == "sdxl" else module
    return _underscored(name)


def read(
    path: Path, network: nn.Module, family: str, layers_per_block: int = 2
) -> tuple[LoraConfig, dict[str, Tensor]]:
    """An adapter of another program, for this network; float32, with its scale folded into B.

    Modules of a lower rank than the highest are filled up with zeros, which changes nothing.

    Args:
        path: a file, or a folder that PEFT wrote.
        network: of the base, without an adapter.

    Raises LookupError where there is no file, ValueError for one that is damaged or does not fit.
    """
    path = peftfile.weights_in(path) if path.is_dir() else path
    header = header_of(path)
    if header.tensors:
        check_adapter(header, path.name)
    tensors, metadata = read_tensors(path)
    if any(name.startswith((KOHYA, KOHYA_DIFFUSERS, "lora_te")) for name in tensors):
        found = _from_kohya(path, tensors, network, family, layers_per_block)
    elif peftfile.is_peft(tensors):
        found = {_own_name(key): tensor for key, tensor in peftfile.plain(path, tensors).items()}
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
    path: Path, tensors: Mapping[str, Tensor], network: nn.Module, family: str, layers_per_block: int
) -> dict[str, Tensor]:
    """Names are looked up: underscores hide where a dot was."""
    rows = {name: len(module.weight) for name, module in network.named_modules() if _is_adapted(module)}
    known = _known_names(rows, family, layers_per_block)
    lows: dict[str, Tensor] = {}
    highs: dict[str, Tensor] = {}
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
            lows[module] = tensor.float()
        else:
            rank = tensor.shape[1]
            alpha = float(tensors.get(f"{module}.alpha", torch.tensor(rank)))
            highs[module] = tensor.float() * (alpha / max(rank, 1))
    found: dict[str, Tensor] = {}
    for module in dict.fromkeys([*lows, *highs]):
        found |= _parts(path, known[module], rows, lows.get(module), highs.get(module))
    return found


def _is_adapted(module: nn.Module) -> TypeGuard[nn.Linear | nn.Conv2d]:
    return isinstance(module, nn.Linear | nn.Conv2d)


def _known_names(modules: Iterable[str], family: str, layers_per_block: int) -> dict[str, tuple[str, ...]]:
    """What a file may call a module, to the modules of diffusers that it is: mostly one."""
    known: dict[str, tuple[str, ...]] = {}
    if family not in UNETS:
        known |= {_underscored(name, KOHYA_DIFFUSERS): (name,) for name in modules}
        return known | joined.known(modules, family, _underscored)
    known |= {_underscored(name): (name,) for name in modules}
    return known | {kohya_name(name, family, layers_per_block): (name,) for name in modules}


def _parts(
    path: Path, names: Sequence[str], rows: Mapping[str, int], low: Tensor | None, high: Tensor | None
) -> dict[str, Tensor]:
    """The two halves of a module under the names of what it is; `_check` says where one is missing."""
    if low is None or high is None or len(names) == 1:
        halves = {"A": low, "B": high}
        return {f"{names[0]}.lora_{h}.weight": half for h, half in halves.items() if half is not None}
    try:
        pairs = joined.split(low, high, [rows[name] for name in names])
    except ValueError as error:
        raise ValueError(
            f"the adapter does not fit {names[0]} and what goes with it: {error}; it is damaged or made for "
            "another base"
        ) from error
    found: dict[str, Tensor] = {}
    for name, pair in zip(names, pairs, strict=True):
        if pair is not None:
            found |= {f"{name}.lora_A.weight": pair[0], f"{name}.lora_B.weight": pair[1]}
    return found


def _from_diffusers(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> dict[str, Tensor]:
    """The scale stands in the metadata; without them it is 1."""
    _refuse_text(path, any(name.startswith("text_encoder") for name in tensors))
    alpha = _alpha(path, metadata)
    found: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name = _own_name(key)
        if not re.search(r"\.lora_[AB]\.weight$", name):
            raise ValueError(f"{path.name} is no plain LoRA: it holds {key}")
        rank = max(tensor.shape[1], 1)
        found[name] = tensor.float() * ((alpha or rank) / rank if ".lora_B" in name else 1.0)
    return found


def _own_name(key: str) -> str:
    """As the network has it."""
    return next((key.removeprefix(one) for one in lora.PREFIXES if key.startswith(one)), key)


def _alpha(path: Path, metadata: Mapping[str, str]) -> float | None:
    """The scale that the metadata name; None where they name none. What else stands there is not believed."""
    try:
        settings = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        facts = {str(key).partition(".")[2]: value for key, value in settings.items()}
        alpha = None if facts.get("lora_alpha") is None else float(facts["lora_alpha"])
        if alpha is not None and not 0 < alpha <= MAX_WEIGHT:
            raise ValueError(f"lora_alpha is {alpha}")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"the metadata of {path.name} are damaged: choose another file ({error})") from error
    if facts.get("use_rslora") or facts.get("use_dora") or facts.get("alpha_pattern"):
        raise ValueError(
            f"{path.name} is no plain LoRA: its scale is not one number (rsLoRA, DoRA, patterns)"
        )
    return alpha


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
        if tensor.shape[0 if ".lora_A" in name else 1] > MAX_RANK:
            raise ValueError(f"{path.name} has a rank above {MAX_RANK} at {name}, the highest that is read")
        if 0 in tensor.shape:
            raise ValueError(f"{path.name} has rank 0 at {name}, so it changes nothing: choose another file")
        if not tensor.abs().max() <= MAX_WEIGHT:
            raise ValueError(
                f"{name} of {path.name} has a weight above {MAX_WEIGHT:,.0f}, which no adapter needs: it is "
                "damaged, choose another file"
            )
    lora.check_fit(network, tensors)

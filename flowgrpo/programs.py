"""How other programs take what is exported: the layout, the folder, and the words that load it. No torch: the
cards beside the files and the pages say the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Final

from flowgrpo.families import FAMILIES, UNETS
from flowgrpo.trust import hub_id

PIPELINES: Final[Mapping[str, str]] = {name: family.pipeline for name, family in FAMILIES.items()}
"""Family to diffusers' class of a pipeline."""
CHECKPOINTS: Final[Mapping[str, str]] = {
    "ComfyUI": "ComfyUI/models/checkpoints/",
    "A1111": "stable-diffusion-webui/models/Stable-diffusion/",
}
"""Where programs look for a whole model in one file."""


@dataclass(frozen=True)
class Program:
    """How one program takes an adapter.

    Attributes:
        layout: of the file.
        folder: where the program looks for it; empty where it is loaded from anywhere.
        snippet: what loads it, with `{file}` and `{name}` (the file without its ending) in it.
    """

    name: str
    layout: str
    folder: str
    snippet: str


_COMFY = "ComfyUI/models/loras/"
_COMFY_NODE = "Load LoRA → lora_name: {file}, strength_model: 1.0"
_TAG = "<lora:{name}:1>"
_A1111 = Program("A1111", "kohya", "stable-diffusion-webui/models/Lora/", _TAG)
_FORGE = Program("Forge", "kohya", "stable-diffusion-webui-forge/models/Lora/", _TAG)
_DIFFUSERS = Program("diffusers", "diffusers", "", 'pipe.load_lora_weights("{file}")')


def family_of(said: str) -> str:
    """The family of a base by its row, which names it or, as the starter's does, its pipeline's class."""
    return next((family for family, pipeline in PIPELINES.items() if pipeline == said), said)


def _pipeline(family: str) -> str:
    """The class that opens a base; of a family that is none of ours, the one that finds out by itself."""
    return PIPELINES.get(family_of(family), "DiffusionPipeline")


def programs_of(family: str) -> tuple[Program, ...]:
    """The programs that draw with a family, each with the layout that is safest there."""
    family = family_of(family)
    comfy = Program("ComfyUI", "kohya" if family in UNETS else "diffusers", _COMFY, _COMFY_NODE)
    if family in UNETS:
        return comfy, _A1111, _DIFFUSERS
    return (comfy, _FORGE, _DIFFUSERS) if family == "flux" else (comfy, _DIFFUSERS)


def readers_of(family: str, layout: str) -> tuple[Program, ...]:
    """The programs that take a file of this layout, ComfyUI always among them."""
    comfy = Program("ComfyUI", layout, _COMFY, _COMFY_NODE)
    others = [one for one in programs_of(family) if one.name != "ComfyUI" and one.layout == layout]
    if layout == "kohya" and family_of(family) != "sd3":  # diffusers reads none of SD3's, and does not say so
        others.append(_DIFFUSERS)
    return comfy, *others


def lines(
    family: str, source: str, file: str, options: Mapping[str, Any] | None = None
) -> tuple[str, str, str]:
    """What Python has to say: the import, the base's pipeline, the file.

    Args:
        source: of the base. Of a folder or file only its own name is given away: it lies beside.
        file: of the adapter, beside the program.
        options: of the base: `config` has what a single file of SD3 or FLUX.1 lacks.
    """
    pipeline = _pipeline(family)
    names, opened = [pipeline], _opened(family, source)
    known = FAMILIES.get(family_of(family))
    if source.lower().endswith(".safetensors") and known and known.part == "transformer":
        part = known.network
        home = str((options or {}).get("config") or "the base that it was made of")
        opened = f"{_opened(family, home)[:-1]}, transformer={part}.from_single_file({_own_name(source)}))"
        names.append(part)
    return (
        f"from diffusers import {', '.join(names)}",
        f"pipe = {opened}",
        _DIFFUSERS.snippet.format(file=file),
    )


def merged_lines(family: str, name: str, absent: Sequence[str] = ()) -> tuple[str, str]:
    """What Python has to say for a whole model: the import, and the one line that loads it.

    Args:
        name: of the folder, or of the .safetensors file, beside the program.
        absent: parts that it goes without and diffusers wants to be told.
    """
    pipeline = _pipeline(family)
    way = "from_single_file" if name.endswith(".safetensors") else "from_pretrained"
    told = "".join(f", {part}=None" for part in absent)
    return f"from diffusers import {pipeline}", f"pipe = {pipeline}.{way}({_own_name(name)}{told})"


def _opened(family: str, source: str) -> str:
    pipeline = _pipeline(family)
    if source.lower().endswith(".safetensors"):
        return f"{pipeline}.from_single_file({_own_name(source)})"
    asked = None if Path(source).exists() else hub_id(source)
    if asked is None:
        return f"{pipeline}.from_pretrained({_own_name(source)})"
    name, revision = asked
    pinned = f', revision="{revision}"' if revision else ""
    return f'{pipeline}.from_pretrained("{name}"{pinned})'


def _own_name(source: str) -> str:
    """In quotes, as Python reads it."""
    return json.dumps(PurePath(source).name, ensure_ascii=False)


def is_on_the_hub(source: str) -> bool:
    """Whether a base is had from the hub by its name, and so by everybody."""
    return not Path(source).exists() and not Path(source).is_absolute() and hub_id(source) is not None

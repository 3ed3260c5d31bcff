"""What a base's small files say of it, wherever they lie: its folder, the hub's cache, the model that a
single file is built like. Nothing is fetched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from huggingface_hub import try_to_load_from_cache

from flowgrpo import programs
from flowgrpo.policies.source import FLUX_DEPTHS, JOINT_DEPTHS, PREDICTIONS, Source, find
from flowgrpo.trust import MAX_JSON, hub_id
from storage.models import BaseModel

NETWORKS: Final = ("unet", "transformer")
_OF_A_UNET: Final = {"epsilon": "epsilon", "v_prediction": "v"}
_LICENCES: Final = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "CreativeML Open RAIL-M",
    "stabilityai/stable-diffusion-xl-base-1.0": "CreativeML Open RAIL++-M",
    "segmind/SSD-1B": "Apache-2.0",
    "stabilityai/stable-diffusion-3-medium-diffusers": "Stability AI Community License",
    "stabilityai/stable-diffusion-3.5-medium": "Stability AI Community License",
    "stabilityai/stable-diffusion-3.5-large": "Stability AI Community License",
    "black-forest-labs/FLUX.1-dev": "FLUX.1 [dev] Non-Commercial License",
    "black-forest-labs/FLUX.1-schnell": "Apache-2.0",
}
"""Of the published bases, whose cards are not fetched with their weights."""
_STARTER: Final = "flowgrpo/starter/weights/pipeline"
_STARTER_LICENCE: Final = 'CC BY 4.0, a derivative of "Adventurer" by Lisa Wischofsky'
_LICENCE_LINE = re.compile(r"^(license|license_name):\s*([^\s#][^\n#]{0,80})", re.MULTILINE)


def network_config(base: BaseModel) -> dict[str, Any]:
    """The configuration of a base's UNet or transformer; what is known of a published one's where its files
    are not on this machine, else empty.
    """
    for part in NETWORKS:
        found = _document(base, f"{part}/config.json")
        if found:
            return found
    return next((_KNOWN[place[0]] for place in _places(base) if place[0] in _KNOWN), {})


_KNOWN: Final[dict[str, dict[str, Any]]] = {
    name: {"guidance_embeds": has_guidance} for (_, _, has_guidance), name in FLUX_DEPTHS.items()
} | {
    name: {"num_layers": depth, "dual_attention_layers": [0] if has_second else []}
    for (depth, has_second), name in JOINT_DEPTHS.items()
}


def family(base: BaseModel) -> str:
    """Of its network. Rows name it, or as the starter's the class of its pipeline.

    Raises:
        ValueError: it is none of ours.
    """
    found = programs.family_of(base.family)
    if found not in programs.PIPELINES:
        ours = ", ".join(programs.PIPELINES.values())
        raise ValueError(f"{base.name} is a {base.family}; FlowGRPO can drive {ours}")
    return found


def layers_per_block(base: BaseModel) -> int:
    """Of a base's UNet; the published ones all have 2."""
    return int(network_config(base).get("layers_per_block", 2))


def prediction(base: BaseModel) -> str:
    """What a UNet predicts, epsilon or v; empty for a flow, and where nothing says it."""
    single = _single(base)
    told = (base.options or {}).get("prediction") or (single.prediction if single else None)
    if told:
        return _OF_A_UNET.get(PREDICTIONS.get(str(told), ""), "")
    scheduler = _document(base, "scheduler/scheduler_config.json")
    if not scheduler or not _document(base, "unet/config.json"):
        return ""
    return _OF_A_UNET.get(str(scheduler.get("prediction_type", "epsilon")), "")


def licence(base: BaseModel) -> str:
    """As the base's own card says it, or as it is known of a published one; empty where nobody here knows."""
    if Path(base.source).as_posix().endswith(_STARTER):
        return _STARTER_LICENCE
    card = file_of(base, "README.md")
    if card is not None:
        said = _front_matter(card)
        if said:
            return said.get("license_name") or said["license"]
    return next((_LICENCES[place[0]] for place in _places(base) if place[0] in _LICENCES), "")


def _front_matter(card: Path) -> dict[str, str]:
    """What the head of a model's card says of its licence."""
    text = card.read_text(encoding="utf-8", errors="replace")[:20_000]
    head = text.partition("\n---")[0] if text.startswith("---") else ""
    return {key: value.strip().strip("\"'") for key, value in _LICENCE_LINE.findall(head)}


def file_of(base: BaseModel, name: str) -> Path | None:
    """A file of a base by its name inside the folder; None where it is not on this machine."""
    for where, revision in _places(base):
        if Path(where).is_dir():
            found: object = Path(where, name)
        elif hub_id(where):
            found = try_to_load_from_cache(where, name, revision=revision)
        else:
            continue
        if isinstance(found, str | Path) and Path(found).is_file():
            return Path(found)
    return None


def _places(base: BaseModel) -> Iterator[tuple[str, str | None]]:
    """Where its files may lie, the surest first: folders, and hub ids with their revision."""
    single = _single(base)
    for told in (base.source, (base.options or {}).get("config"), single and single.config):
        if not told:
            continue
        asked = None if Path(str(told)).exists() else hub_id(str(told))
        yield asked or (str(told), None)


def _single(base: BaseModel) -> Source | None:
    """What the header of a base of one file says; None for another base, and where the file is gone."""
    if not base.source.lower().endswith(".safetensors"):
        return None
    try:
        return find(base.source)
    except (LookupError, ValueError):
        return None


def _document(base: BaseModel, name: str) -> dict[str, Any]:
    path = file_of(base, name)
    if path is None or path.stat().st_size > MAX_JSON:
        return {}
    try:
        read = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}

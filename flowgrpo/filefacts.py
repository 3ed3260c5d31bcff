"""What the header of an adapter's file says of it, for the programs and pages that show such things.

ModelSpec 1.0.1 (github.com/Stability-AI/ModelSpec), the keys of kohya's trainer that A1111, Forge and model
browsers read, and our own under `flowgrpo.`. All of them are strings; loaders ignore them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from flowgrpo.families import FAMILIES

SPEC = "1.0.1"
IMPLEMENTATION = "diffusers"
HASH = "sshs_model_hash"
"""kohya's name for the hash of all that follows the header: the same for the same weights, whatever the
header says.
"""


@dataclass(frozen=True)
class Origin:
    """Where an adapter comes from, as far as that is known.

    Attributes:
        title: what people call it.
        base: the name of the model that it was made for.
        made_at: with its time zone.
        size: width and height of the images that it was trained on; None where nobody knows.
        prediction: epsilon or v of a UNet; empty for flows.
        usage_hint: a short line for who uses the file.
        training: fact to value of the run that made it, see `TRAINING`.
        is_tuned_here: False for a file of somebody else, of which nobody here knows how it was made.
        licence: of the base; empty where nobody here knows.
        prompt_set: what the prompts are called, with their version; empty where they are no set.
        num_prompts: that it was trained on.
        votes: how they taught it to how many, see `storage.ancestry.VotesBehind`.
        drawn: steps and guidance that its images were made with while it learned.
    """

    title: str
    base: str
    made_at: datetime
    size: tuple[int, int] | None = None
    prediction: str = ""
    usage_hint: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    is_tuned_here: bool = True
    licence: str = ""
    prompt_set: str = ""
    num_prompts: int = 0
    votes: Mapping[str, int] = field(default_factory=dict)
    drawn: Mapping[str, float] = field(default_factory=dict)


TRAINING = {
    "learning_rate": "ss_learning_rate",
    "update": "ss_steps",
    "seed": "ss_seed",
}
"""Facts of a run that kohya's trainer has a key for; every one stands under `flowgrpo.` too."""


def facts_of(family: str, rank: int, network: Mapping[str, Any], origin: Origin) -> dict[str, str]:
    """The header of a file whose scale is folded into B, so that its alpha is its rank.

    Args:
        network: the configuration of the base's UNet or transformer, which tells variants of a family apart.
    """
    width, height = origin.size or (FAMILIES[family].side,) * 2
    spec = {
        "sai_model_spec": SPEC, "architecture": f"{architecture_of(family, network)}/lora",
        "implementation": IMPLEMENTATION, "title": origin.title, "resolution": f"{width}x{height}",
        "date": origin.made_at.isoformat(timespec="seconds"), "prediction_type": origin.prediction,
        "usage_hint": origin.usage_hint, "description": description_of(origin),
        "license": origin.licence,
    }  # fmt: skip
    kohya = {
        "ss_network_module": "networks.lora", "ss_network_dim": str(rank),
        "ss_network_alpha": str(float(rank)), "ss_base_model_version": FAMILIES[family].kohya,
        "ss_sd_model_name": origin.base, "ss_output_name": origin.title,
        "ss_training_comment": description_of(origin),
    }  # fmt: skip
    known = {key: value for key, value in origin.training.items() if value is not None}
    kohya |= {TRAINING[key]: _word(value) for key, value in known.items() if key in TRAINING}
    own = {f"flowgrpo.{key}": _word(value) for key, value in known.items()}
    return {f"modelspec.{key}": value for key, value in spec.items() if value} | kohya | own


def merged_facts_of(family: str, network: Mapping[str, Any], origin: Origin) -> dict[str, str]:
    """The header of a whole model in one file, which holds no adapter of its own."""
    spec = {
        key: value
        for key, value in facts_of(family, 0, network, origin).items()
        if not key.startswith("ss_") and key not in ("modelspec.usage_hint", "modelspec.architecture")
    }
    return spec | {
        "modelspec.architecture": architecture_of(family, network),
        "modelspec.merged_from": f"{origin.base}, {origin.title}",
        "modelspec.description": description_of(origin).replace("A LoRA for", "A LoRA merged into", 1),
    }


def architecture_of(family: str, network: Mapping[str, Any]) -> str:
    """What ModelSpec calls the base, with the variant where one is known by its configuration.

    Raises LookupError for a family that we do not know.
    """
    if family not in FAMILIES:
        raise LookupError(f"there is no family {family}: there are {', '.join(FAMILIES)}")
    if family == "flux" and "guidance_embeds" in network:
        return "flux-1-dev" if network["guidance_embeds"] else "flux-1-schnell"
    if family == "sd3":
        variants = {24: "5-medium" if network.get("dual_attention_layers") else "m", 38: "5-large"}
        variant = variants.get(int(network.get("num_layers", 0)))
        if variant:
            return f"stable-diffusion-3-{variant}"
    return FAMILIES[family].architecture


def hash_of_weights(path: Path) -> str:
    """SHA-256, in hex, of a safetensors file without its header."""
    with path.open("rb") as file:
        file.seek(int.from_bytes(file.read(8), "little") + 8)
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_of_prompts(prompts: Sequence[str]) -> str:
    """SHA-256, in hex, of a list of prompts, one a line: names the set without giving it away."""
    return hashlib.sha256("\n".join(prompts).encode()).hexdigest()


def with_hash(facts: Mapping[str, str], path: Path) -> dict[str, str]:
    """The facts, and the hash of the weights that a file written with them holds."""
    found = hash_of_weights(path)
    return dict(facts) | {HASH: found, "modelspec.hash_sha256": f"0x{found}"}


def description_of(origin: Origin) -> str:
    """In one sentence: what it is, for what, and what taught it."""
    if not origin.is_tuned_here:
        return f"A LoRA for {origin.base}, imported into FlowGRPO Studio and exported again."
    learned = origin.training.get("rewards")
    by = f" by the rewards {', '.join(learned)}" if isinstance(learned, Mapping) and learned else ""
    votes = origin.training.get("n_votes")
    people = f", from {votes:,} votes of people" if votes else ""
    return f"A LoRA for {origin.base}, tuned with FlowGRPO Studio{by}{people}."


def _word(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)

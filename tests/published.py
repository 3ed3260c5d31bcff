"""The real architectures from their published configurations, on the meta device: shapes, and no weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from flowgrpo.policies import FAMILIES, Policy
from tests.tiny import tiny_tokenizer
from tests.tiny_flow import tiny_t5_tokenizer

PUBLISHED = Path(__file__).parents[1] / "flowgrpo" / "policies" / "published"
CLIP_LENGTH = 77
"""Of the published tokenizers, whose words are not needed for shapes."""


def bare_part(name: str, part: str, device: str = "meta", **changes: Any) -> Any:
    """One part of a published pipeline, its weights as they come; a change is to its configuration."""
    library, class_name = index_of(name)[part]
    if part.startswith("tokenizer"):
        if class_name.startswith("T5"):
            return tiny_t5_tokenizer()
        tokenizer = tiny_tokenizer()
        tokenizer.model_max_length = CLIP_LENGTH
        return tokenizer
    folder = PUBLISHED / name / part
    if part == "scheduler":  # its numbers are wanted
        scheduler = getattr(diffusers, class_name)
        return scheduler.from_config(scheduler.load_config(folder))
    with torch.device(device):
        if library == "diffusers":
            part_class = getattr(diffusers, class_name)
            return part_class.from_config(part_class.load_config(folder), **changes)
        part_class = getattr(transformers, class_name)
        return part_class(part_class.config_class.from_pretrained(folder, **changes))


def index_of(name: str) -> dict[str, Any]:
    """The parts of a published pipeline, each with its library and class, and its settings."""
    index = json.loads((PUBLISHED / name / "model_index.json").read_text())
    return {part: entry for part, entry in index.items() if not part.startswith("_")}


def bare_policy(name: str) -> Policy:
    """The policy of a published pipeline, all of it on the meta device."""
    class_name = json.loads((PUBLISHED / name / "model_index.json").read_text())["_class_name"]
    parts = {
        part: bare_part(name, part) if isinstance(entry, list) else entry
        for part, entry in index_of(name).items()
    }
    return FAMILIES[class_name](getattr(diffusers, class_name)(**parts), torch.device("meta"))

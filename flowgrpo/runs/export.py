"""Gives a checkpoint's adapter to other programs, as one file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import cast, get_args

from flowgrpo import exchange, lora, whole
from flowgrpo.policies import FAMILIES
from flowgrpo.policies.source import find
from flowgrpo.runs.commands import named_checkpoint
from flowgrpo.runs.shelf import checked_folder
from storage import checkpoints
from storage.engine import Database


def export_checkpoint(db: Database, name: str, path: Path, layout: exchange.Layout = "diffusers") -> Path:
    """Writes the averaged adapter of a checkpoint, all of it or nothing.

    Args:
        name: of the checkpoint, or its id; of several checkpoints of one name, the newest.
        path: a file that is not there yet.

    Raises LookupError where there is no such checkpoint, ValueError where it cannot be given in this layout.
    """
    if path.suffix != ".safetensors":
        raise ValueError(f"the file must end in .safetensors, got {path.name}")
    if path.exists():
        raise ValueError(f"{path} is there already: name another file")
    checkpoint = named_checkpoint(db, name)
    if checkpoint.path is None:
        raise ValueError(
            f"{checkpoint.name} is a base, so there is no adapter to export: name what a run made"
        )
    folder = checked_folder(db, checkpoint)
    if whole.is_whole(folder):
        raise ValueError(f"{checkpoint.name} is a whole network: there is no adapter to export")
    config, tensors = lora.load(folder, "ema")
    source = find(checkpoints.base_of(db, checkpoint).source)
    if source.pipeline not in FAMILIES:
        raise ValueError(f"{source.where} is a {source.pipeline}; FlowGRPO can drive {', '.join(FAMILIES)}")
    unfinished = path.with_name(f".{path.name}.unfinished")
    exchange.export(
        unfinished, config, tensors, family=FAMILIES[source.pipeline].family, layout=layout,
        layers_per_block=_layers_per_block(Path(source.where)),
    )  # fmt: skip
    os.replace(unfinished, path)
    return path


def _layers_per_block(folder: Path) -> int:
    """Of a base's UNet; the published ones all have 2."""
    config = folder / "unet" / "config.json"
    stored = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    return int(stored.get("layers_per_block", 2))


def checked_layout(word: str) -> exchange.Layout:
    """The layout of this name; ValueError with those that there are."""
    for layout in get_args(exchange.Layout):
        if layout == word:
            return cast(exchange.Layout, layout)
    raise ValueError(f"a layout is {' or '.join(get_args(exchange.Layout))}, got {word}")

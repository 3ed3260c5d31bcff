"""Gives a checkpoint's adapter to other programs, as one file."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import get_args

from flowgrpo import exchange, lora, whole
from flowgrpo.policies import FAMILIES
from flowgrpo.policies.source import find
from flowgrpo.runs.shelf import checked_folder
from storage import checkpoints
from storage.engine import Database, open_database
from storage.errors import NotSavedError, SchemaError
from storage.models import Checkpoint


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
    checkpoint = _named(db, name)
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


def _named(db: Database, name: str) -> Checkpoint:
    known = checkpoints.list_checkpoints(db)
    found = next((one for one in reversed(known) if name in (one.name, one.id)), None)
    if found is None:
        names = ", ".join(one.name for one in known)
        raise LookupError(f"there is no checkpoint {name}; there are {names or 'none'}")
    return found


def _layers_per_block(folder: Path) -> int:
    """Of a base's UNet; the published ones all have 2."""
    config = folder / "unet" / "config.json"
    stored = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    return int(stored.get("layers_per_block", 2))


def main(argv: list[str] | None = None) -> int:
    """Entry point of the command."""
    parser = argparse.ArgumentParser(description="Gives a checkpoint's adapter to other programs.")
    parser.add_argument("checkpoint", help="its name or id")
    parser.add_argument("file", type=Path, help="where to; ends in .safetensors")
    parser.add_argument("--layout", choices=get_args(exchange.Layout), default="diffusers")
    parser.add_argument("--home", type=Path, default=Path(os.environ.get("FLOWGRPO_HOME", "data")))
    given = parser.parse_args(argv)
    try:
        db = open_database(given.home)
        written = export_checkpoint(db, given.checkpoint, given.file, given.layout)
    except (LookupError, ValueError, SchemaError, NotSavedError, OSError) as error:
        parser.error(str(error))
    db.close()
    sys.stdout.write(f"{written}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

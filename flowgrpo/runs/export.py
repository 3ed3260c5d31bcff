"""Gives a checkpoint to other programs, with a card beside it: for the command line, and as a job."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast, get_args

from flowgrpo import exchange, lora, whole
from flowgrpo.card import Exported, card_of
from flowgrpo.filefacts import facts_of
from flowgrpo.manifest import sha256_of
from flowgrpo.runs import base_facts
from flowgrpo.runs.jobs import Bench
from flowgrpo.runs.merging import export_merged, finished, sha256_of_folder
from flowgrpo.runs.origins import origin_of
from flowgrpo.runs.shelf import checked_folder
from storage import checkpoints, exports, quotas
from storage.engine import Database
from storage.models import Checkpoint
from storage.types import new_id


def export_as(db: Database, name: str, path: Path, layout: str, *, merged: bool) -> list[Path]:
    """What `app.py export` writes: an adapter and its card, or a whole model."""
    if merged:
        written = [export_merged(db, tuned_checkpoint(db, name), path)]
        return [*written, path.with_suffix(".md")] if path.suffix == ".safetensors" else written
    return [export_checkpoint(db, name, path, checked_layout(layout)), path.with_suffix(".md")]


def tuned_checkpoint(db: Database, name: str) -> Checkpoint:
    """The newest of a name, or the one of an id; LookupError where there is none, ValueError for a base."""
    checkpoint = checkpoints.named_checkpoint(db, name)
    if checkpoint.path is None:
        raise ValueError(f"{checkpoint.name} is a base, so there is nothing to export: name what a run made")
    return checkpoint


def export_checkpoint(
    db: Database, name: str, path: Path, layout: exchange.Layout = "diffusers", *, called: str | None = None
) -> Path:
    """Writes the averaged adapter of a checkpoint, all of it or nothing, and a card beside it: FILE.md.

    Args:
        name: of the checkpoint, or its id; of several checkpoints of one name, the newest.
        path: a file that is not there yet.
        called: what the card calls the file; by default its own name.

    Raises LookupError where there is no such checkpoint, ValueError where it cannot be given in this layout.
    """
    if path.suffix != ".safetensors":
        raise ValueError(f"the file must end in .safetensors, got {path.name}")
    for one in (path, path.with_suffix(".md")):
        if one.exists():
            raise ValueError(f"{one} is there already: name another file")
    checkpoint = tuned_checkpoint(db, name)
    folder = checked_folder(db, checkpoint)
    if whole.is_whole(folder):
        raise ValueError(
            f"{checkpoint.name} is a whole network, so there is no adapter to export: export it merged"
        )
    config, tensors = lora.load(folder, "ema")
    base = checkpoints.base_of(db, checkpoint)
    family, origin = base_facts.family(base), origin_of(db, checkpoint.id)
    about = Exported(called or path.name, family, base.source, layout, origin, base.options or {})
    with finished(path) as unfinished:
        exchange.export(
            unfinished, config, tensors, family=family, layout=layout,
            layers_per_block=base_facts.layers_per_block(base),
            facts=facts_of(family, config.rank, base_facts.network_config(base), origin),
        )  # fmt: skip
    with finished(path.with_suffix(".md")) as unfinished:
        unfinished.write_text(card_of(about), encoding="utf-8")
    return path


def export_job(bench: Bench) -> dict[str, Any]:
    """The job "export": writes into the data folder, then its row; returns {"export": its id}."""
    db, asked = bench.db, bench.job.payload
    export_id, layout = new_id(), str(asked["layout"])
    checkpoint = tuned_checkpoint(db, asked["checkpoint"])
    called, folder = exports.file_name(checkpoint.name, layout), db.home / exports.FOLDER
    folder.mkdir(exist_ok=True)
    bench.tick("writing the files", 0, 1)
    if layout == exports.MERGED:
        place = folder / f"merged-{bench.job.id}"
        shutil.rmtree(place, ignore_errors=True)  # of a worker that was killed at it
        path = export_merged(
            db, checkpoint, place / called, check_room=lambda size: quotas.check_room(db, size)
        )
        sha256 = sha256_of_folder(path)
    else:
        path = folder / f"{export_id}.safetensors"
        export_checkpoint(db, checkpoint.id, path, checked_layout(layout), called=called)
        sha256 = sha256_of(path)
    exports.record_export(
        db, export_id=export_id, checkpoint_id=checkpoint.id, layout=layout, sha256=sha256,
        path=str(path.relative_to(db.home)), created_by=bench.job.created_by,
    )  # fmt: skip
    return {"export": export_id}


def checked_layout(word: str) -> exchange.Layout:
    """The layout of this name; ValueError with those that there are."""
    for layout in get_args(exchange.Layout):
        if layout == word:
            return cast(exchange.Layout, layout)
    raise ValueError(f"a layout is {' or '.join(get_args(exchange.Layout))}, got {word}")

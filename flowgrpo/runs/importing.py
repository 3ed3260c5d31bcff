"""The job "import": an adapter of another program becomes a checkpoint of the base that it was made for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from flowgrpo import exchange, lora, manifest
from flowgrpo.manifest import MANIFEST, sha256_of
from flowgrpo.runs import base_facts
from flowgrpo.runs.jobs import Bench
from storage import checkpoints, imports
from storage.models import BaseModel, Checkpoint
from storage.types import new_id


def import_job(bench: Bench) -> dict[str, Any]:
    """Reads the uploaded file, commits it as a checkpoint, and removes it; returns {"checkpoint": its id}.

    A file that does not fit stays for a day, so that it can be imported for another base.

    Raises what `Bench.tick` raises, and ValueError or LookupError with a sentence for who asked.
    """
    asked = bench.job.payload
    uploaded = imports.uploaded_file(bench.db, asked["file"])
    own = checkpoints.get_checkpoint(bench.db, asked["base"])
    base = checkpoints.base_of(bench.db, own)
    bench.tick("reading the file", 0, 2)
    folder, sha256 = _commit(bench, uploaded, own, base)
    bench.tick("noting the checkpoint", 1, 2)
    made = checkpoints.record_import(
        bench.db, base_checkpoint_id=own.id, name=asked["name"], sha256=sha256, origin=asked["origin"],
        path=str(folder.relative_to(bench.db.home)), by=bench.job.created_by,
    )  # fmt: skip
    shutil.rmtree(uploaded.parent, ignore_errors=True)
    return {"checkpoint": made.id}


def _commit(bench: Bench, uploaded: Path, own: Checkpoint, base: BaseModel) -> tuple[Path, str]:
    """The folder of the checkpoint, complete and intact, and the hash of its manifest."""
    with bench.turn():
        policy = bench.painter.shelf.get(own)
        layers = base_facts.layers_per_block(base)
        config, tensors = exchange.read(uploaded, policy.network, base_facts.family(base), layers)
    folder = bench.db.home / imports.FOLDER / new_id()
    facts = {"update": 0, "origin": bench.job.payload["origin"], "base": base.name}
    with manifest.committing(folder, facts) as temporary:
        lora.save(temporary, config, policy.lora_prefix, ema=tensors)
    return folder, sha256_of(folder / MANIFEST)

"""`config.yaml` of a run: every setting, and what decides the bits beside them, for `app.py run`."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import diffusers
import peft
import torch
import transformers

from flowgrpo import config_file
from flowgrpo.config import RunConfig
from flowgrpo.filefacts import hash_of_prompts
from flowgrpo.fingerprint import fingerprint
from flowgrpo.manifest import sha256_of
from flowgrpo.runs import layout
from flowgrpo.runs.device import describe
from flowgrpo.runs.recovery import GO_BACK
from flowgrpo.trust import hub_id
from storage import checkpoints, prompts, runs
from storage.engine import Database
from storage.models import BaseModel, Checkpoint, Run
from storage.version import VERSION

MACHINE: Final = (
    "studio", "torch", "diffusers", "transformers", "peft", "device", "processor", "threads", "processes"
)  # fmt: skip
"""What of the file says with which programs and processors: any of it can change the last bits."""
_HEAD = """Run {number} of FlowGRPO Studio: {name}
Repeat it, where the same base is there: python app.py run {file}
made_with tells how it was made; all the rest is its settings (docs/runs.md)."""


def write(
    db: Database, run: Run, config: RunConfig, versions: Mapping[str, str], here: Mapping[str, Any]
) -> None:
    """Writes the file into the run's folder, for this attempt.

    Args:
        versions: of the rewards and judges, by name.
        here: of `machine`.

    Raises:
        OSError: the disk is full, say.
    """
    path = layout.config_file(db.home, run.id)
    head = _HEAD.format(number=run.number, name=" ".join(run.name.split()), file=path.name)
    facts = dict(here) | _facts(db, run, config) | {"rewards": dict(versions)}
    if earlier := _earlier(path, here):
        facts["earlier"] = earlier
    unfinished = path.with_suffix(".new")
    unfinished.write_text(config_file.written(config, facts, head), encoding="utf-8")
    unfinished.replace(path)


def machine(device: torch.device, processes: int = 1) -> dict[str, Any]:
    """What this process computes with."""
    return {
        "studio": VERSION,
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "device": describe(device),
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
        "processes": processes,
    }


def _facts(db: Database, run: Run, config: RunConfig) -> dict[str, Any]:
    """Where it starts, which prompts it has, and what people decided meanwhile."""
    parent = checkpoints.get_checkpoint(db, run.parent_checkpoint_id)
    facts: dict[str, Any] = {
        "run": {"id": run.id, "name": run.name},
        "base": base_facts(checkpoints.base_of(db, parent)),
        "prompts_sha256": hash_of_prompts(config.prompts),
    }
    if parent.path is not None:
        facts["start"] = {"name": parent.name, "adapter": adapter_hash(db, parent)}
    if run.prompt_set_id is not None:
        found = prompts.get_prompt_set(db, run.prompt_set_id).row
        facts["prompt_set"] = {"name": found.name, "version": found.version}
    if decided := _decided(db, run, config):
        facts["decided"] = decided
    return facts


def base_facts(base: BaseModel) -> dict[str, Any]:
    """Its name, and what tells it from others: a commit of the hub, or a fingerprint of its files."""
    options = {key: Path(value).name if Path(value).exists() else value for key, value in _options(base)}
    facts = {"name": base.name} | ({"options": options} if options else {})
    if hub_id(base.source) and not Path(base.source).exists():
        return facts | {"source": base.source}
    return facts | {"fingerprint": fingerprint(Path(base.source))}


def _options(base: BaseModel) -> list[tuple[str, str]]:
    """How it is read where its files do not say; never the folders of this machine."""
    return sorted((key, str(value)) for key, value in (base.options or {}).items())


def adapter_hash(db: Database, checkpoint: Checkpoint) -> str:
    """SHA-256 of the weights that a run would start from; empty where the files are gone."""
    folder = db.home / str(checkpoint.path)
    files = sorted(folder.rglob("ema.safetensors"))
    return sha256_of(files[0]) if files else ""


def _decided(db: Database, run: Run, config: RunConfig) -> list[str]:
    """What changed the run's course and stands in no setting, a sentence each."""
    kinds = {GO_BACK, *(["extended"] if config.update.decay != "none" else [])}
    return [str(event.detail) for event in runs.events(db, run.id) if event.kind in kinds]


def _earlier(path: Path, here: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What earlier attempts computed with, where that was something else."""
    if not path.is_file():
        return []
    try:
        told = config_file.parse(path.read_text(encoding="utf-8"), path.name).made_with
    except (ValueError, OSError):  # somebody changed it; this attempt's replaces it
        return []
    before = {name: told.get(name) for name in MACHINE}
    known = told.get("earlier")
    kept = [one for one in known if isinstance(one, dict)] if isinstance(known, list) else []
    now = {name: here.get(name) for name in MACHINE}
    return kept if before == now or before in kept else [*kept, before]

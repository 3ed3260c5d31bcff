"""A checkpoint as a whole model, the adapter in the weights of its base: a diffusers folder, or one file."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from flowgrpo import ldm_names
from flowgrpo.card import Exported, card_of
from flowgrpo.families import UNETS
from flowgrpo.filefacts import merged_facts_of, with_hash
from flowgrpo.manifest import sha256_of
from flowgrpo.policies import load_policy
from flowgrpo.runs import base_facts
from flowgrpo.runs.origins import origin_of
from flowgrpo.runs.shelf import checked_folder
from flowgrpo.tensorfile import write_tensors
from flowgrpo.tensorheader import read_header
from storage import checkpoints, exports
from storage.disk import sync
from storage.engine import Database
from storage.models import BaseModel, Checkpoint
from storage.partials import partial_of

_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F8_E4M3": torch.bfloat16, "F8_E5M2": torch.bfloat16}
"""Of a base's files to that of the merged ones, which is float32 for every other."""


def export_merged(
    db: Database, checkpoint: Checkpoint, target: Path, *, check_room: Callable[[int], None] | None = None
) -> Path:
    """Writes the base with the checkpoint in its weights, in the precision of the base, all of it or nothing.

    Args:
        target: a folder that is not there yet, which gets a card; or, for SD 1.5 and SDXL, a .safetensors
            file in the names of Stability's own code, with the card beside it.
        check_room: asked with the bytes that it takes, before anything is written, besides the disk.

    Raises LookupError or ValueError with a sentence where it cannot be made, or the disk has no room.
    """
    is_file = target.suffix == ".safetensors"
    for one in (target, target.with_suffix(".md")) if is_file else (target,):
        if one.exists() or one.is_symlink():
            raise ValueError(f"{one} is there already: name another place")
    folder = checked_folder(db, checkpoint)
    base = checkpoints.base_of(db, checkpoint)
    family = base_facts.family(base)
    if is_file and family not in UNETS:
        raise ValueError(
            f"a whole {family} is written as a folder of diffusers alone: name one, without an ending"
        )
    policy = load_policy(base.source, device="cpu", dtype=stored_dtype(base), **(base.options or {}))
    policy.load_adapter(folder)
    policy.network.to(memory_format=torch.contiguous_format)
    _check_disk(target, size_of(policy.pipeline), check_room)
    origin = origin_of(db, checkpoint.id)
    about = Exported(
        target.name, family, base.source, exports.MERGED, origin, base.options or {},
        _absent(policy.pipeline),
    )  # fmt: skip
    if is_file:
        facts = merged_facts_of(family, base_facts.network_config(base), origin)
        _write_file(target, policy.pipeline, facts, card_of(about))
        return target
    with _committed(target) as unfinished:
        policy.pipeline.save_pretrained(unfinished, safe_serialization=True)
        (unfinished / exports.CARD).write_text(card_of(about), encoding="utf-8")
    return target


def _write_file(target: Path, pipeline: Any, facts: Mapping[str, str], card: str) -> None:
    with finished(target) as unfinished:
        tensors = ldm_names.one_file(pipeline)
        write_tensors(unfinished, tensors, {"format": "pt", **facts})
        write_tensors(unfinished, tensors, {"format": "pt", **with_hash(facts, unfinished)})
    with finished(target.with_suffix(".md")) as unfinished:
        unfinished.write_text(card, encoding="utf-8")


def stored_dtype(base: BaseModel) -> torch.dtype:
    """What most numbers of a base's network are stored as, as far as we compute in it."""
    counted: Counter[str] = Counter()
    for path in _weights(base):
        for entry in read_header(path).tensors.values():
            counted[entry.dtype] += entry.end - entry.begin
    return _DTYPES.get(counted.most_common(1)[0][0], torch.float32) if counted else torch.float32


def _weights(base: BaseModel) -> list[Path]:
    if base.source.lower().endswith(".safetensors"):
        return [Path(base.source)]
    for part in base_facts.NETWORKS:
        config = base_facts.file_of(base, f"{part}/config.json")
        if config is not None:
            return sorted(config.parent.glob("*.safetensors"))
    return []


def size_of(pipeline: Any) -> int:
    """Bytes of all weights of a pipeline."""
    modules = [part for part in pipeline.components.values() if isinstance(part, nn.Module)]
    return sum(
        tensor.numel() * tensor.element_size()
        for module in modules
        for tensor in module.state_dict().values()
    )


def _check_disk(target: Path, size: int, check_room: Callable[[int], None] | None) -> None:
    above = target.parent.resolve()
    while not above.exists():
        above = above.parent
    free = shutil.disk_usage(above).free
    if free < size:
        raise ValueError(
            f"{target.name} takes {size / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free on the disk of "
            f"{above}: free some space, or name a place on another disk"
        )
    if check_room is not None:
        check_room(size)


def _absent(pipeline: Any) -> tuple[str, ...]:
    """Parts that SD3 goes without, which diffusers wants to be told: it does not list them as optional."""
    known = ("text_encoder_3", "tokenizer_3")
    return tuple(part for part in known if part in pipeline.components and pipeline.components[part] is None)


@contextmanager
def _committed(target: Path) -> Iterator[Path]:
    """Gives a folder beside the target to fill, which becomes it once all of it is on the disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with partial_of(target, is_folder=True) as unfinished:
        yield unfinished
        for path in (*unfinished.rglob("*"), unfinished):
            sync(path)
        unfinished.rename(target)
        sync(target.parent)


@contextmanager
def finished(path: Path) -> Iterator[Path]:
    """Gives a name to write to, which becomes `path` once all of it is on the disk."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        yield unfinished
        with unfinished.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def sha256_of_folder(folder: Path) -> str:
    """SHA-256, in hex, of the names and hashes of all files below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    told = "".join(f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in files)
    return hashlib.sha256(told.encode()).hexdigest()

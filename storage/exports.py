"""What was written of checkpoints for other programs: a file or folder, there and whole before its row is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from sqlalchemy import select

from storage import audit
from storage.engine import Database
from storage.jobs import request_job
from storage.lookup import required
from storage.models import Checkpoint
from storage.models_judging import Job
from storage.models_studio import Export

KIND: Final = "export"
"""Of the job that writes one."""
FOLDER: Final = "exports"
"""Of the data folder."""
CARD: Final = "README.md"
"""Of a merged model's folder; the card of one file has the file's name."""
LAYOUTS: Final = ("diffusers", "kohya")
"""Of an adapter, which is one file."""
MERGED: Final = "merged"
"""Instead of a layout: the whole model, the adapter in its weights, as a diffusers folder."""


def file_name(name: str, layout: str) -> str:
    """What people call the export of a checkpoint: the file, or the folder of a merged model."""
    plain = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:80] or "checkpoint"
    return f"{plain}-{layout}" + ("" if layout == MERGED else ".safetensors")


def request_export(db: Database, checkpoint_id: str, layout: str, by: str = "local") -> Job:
    """Queues the writing of a file; its result is {"export": id of the row}.

    Raises:
        LookupError: no such checkpoint, or its files are damaged or pruned. ValueError: it is a base, or
            there is no such layout.
    """
    if layout not in (*LAYOUTS, MERGED):
        raise ValueError(f"a layout is {', '.join(LAYOUTS)} or {MERGED}, got {layout}")
    with db.read() as session:
        checkpoint = required(session, Checkpoint, checkpoint_id, "checkpoint")
    if checkpoint.path is None:
        raise ValueError(f"{checkpoint.name} is a base, so there is nothing to export: choose a tuned one")
    if checkpoint.state != "committed":
        raise LookupError(
            f"the files of checkpoint {checkpoint.name} are {checkpoint.state}: choose another one"
        )
    return request_job(db, KIND, {"checkpoint": checkpoint.id, "layout": layout}, by)


def record_export(
    db: Database, *, export_id: str, checkpoint_id: str, layout: str, path: str, sha256: str, created_by: str
) -> Export:
    """Notes a finished file, with its place relative to the data folder."""
    with db.write() as session:
        checkpoint = required(session, Checkpoint, checkpoint_id, "checkpoint")
        made = Export(id=export_id, checkpoint_id=checkpoint_id, layout=layout, path=path, sha256=sha256)
        made.created_by = created_by
        session.add(made)
        detail = {"name": checkpoint.name, "layout": layout, "sha256": sha256}
        audit.note(session, created_by, "checkpoint.export", checkpoint_id, detail)
        return made


def get_export(db: Database, export_id: str) -> Export:
    """Raises LookupError when there is none with this id."""
    with db.read() as session:
        return required(session, Export, export_id, "export")


def exports_of(db: Database, checkpoint_id: str) -> list[Export]:
    """The files that were written of a checkpoint, oldest first."""
    query = select(Export).where(Export.checkpoint_id == checkpoint_id)
    with db.read() as session:
        return list(session.scalars(query.order_by(Export.created_at, Export.id)))


def file_of(db: Database, export: Export) -> Path:
    """The file itself; LookupError with a sentence where it is gone, or is a folder, which is not sent."""
    path = (db.home / export.path).resolve()
    if not path.is_relative_to(db.home.resolve()) or not path.is_file():
        raise LookupError("the exported file is gone: export the checkpoint again")
    return path


def card_of(db: Database, export: Export) -> Path:
    """The card beside it; LookupError with a sentence where there is none, as of one of an older release."""
    path = (db.home / export.path).resolve()
    card = path / CARD if path.is_dir() else path.with_suffix(".md")
    if not path.is_relative_to(db.home.resolve()) or not card.is_file():
        raise LookupError("there is no card of this export: export the checkpoint again")
    return card

"""Bases and checkpoints: what can generate. The files are there before the row is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import select

from storage import audit
from storage.engine import Database
from storage.errors import StaleAttemptError
from storage.lookup import required
from storage.models import BaseModel, Checkpoint, CheckpointState, Run


def register_base(
    db: Database, *, name: str, source: str, family: str, options: Mapping[str, str] | None = None
) -> Checkpoint:
    """The base's own checkpoint (update 0, no path). Idempotent by `name`; a moved source is noted.

    options: how it is read where its files do not say, as keywords of `load_policy`.
    """
    with db.write() as session:
        base = session.scalar(select(BaseModel).where(BaseModel.name == name))
        if base is None:
            base = BaseModel(name=name, source=source, family=family)
            session.add(base)
            session.flush()
            session.add(Checkpoint(base_model_id=base.id, name=name))
        base.source, base.family, base.options = source, family, dict(options) if options else None
        session.flush()
        own = Checkpoint.base_model_id == base.id, Checkpoint.run_id.is_(None), Checkpoint.parent_id.is_(None)
        return session.scalars(select(Checkpoint).where(*own)).one()


def other_base(db: Database, name: str, source: str) -> str | None:
    """The source of a base of this name that is another one and still there; None where the name is free.

    What was tuned on a base stays with it. A folder or file that is gone may have moved; a hub model at
    another commit is another base.
    """
    with db.read() as session:
        known = session.scalar(select(BaseModel.source).where(BaseModel.name == name))
    if known is None or known == source:
        return None
    return known if "@" in known or Path(known).exists() else None


def list_checkpoints(db: Database) -> list[Checkpoint]:
    """Every checkpoint that can be used, newest last."""
    query = (
        select(Checkpoint)
        .where(Checkpoint.state == "committed")
        .order_by(Checkpoint.created_at, Checkpoint.id)
    )
    with db.read() as session:
        return list(session.scalars(query))


def checkpoints_of_run(db: Database, run_id: str) -> list[Checkpoint]:
    """What a run made, oldest first, damaged and pruned ones included."""
    query = select(Checkpoint).where(Checkpoint.run_id == run_id).order_by(Checkpoint.update)
    with db.read() as session:
        return list(session.scalars(query))


def get_checkpoint(db: Database, checkpoint_id: str) -> Checkpoint:
    """Raises LookupError when there is none with this id."""
    with db.read() as session:
        return required(session, Checkpoint, checkpoint_id, "checkpoint")


def base_of(db: Database, checkpoint: Checkpoint) -> BaseModel:
    """The base under a checkpoint."""
    with db.read() as session:
        return required(session, BaseModel, checkpoint.base_model_id, "base model")


def commit_checkpoint(
    db: Database,
    *,
    run_id: str,
    attempt: int,
    update: int,
    name: str,
    path: str,
    sha256: str,
    votes: dict[str, Any] | None = None,
) -> Checkpoint:
    """Notes the finished files of one update; a second call for the same (run, update) replaces the first.

    Args:
        path: relative to the data folder.
        votes: the snapshot of votes that it learned from, and its hash.

    Raises:
        StaleAttemptError: the run is in a later attempt.
        LookupError: no such run.
    """
    with db.write() as session:
        run = required(session, Run, run_id, "run")
        if run.attempt != attempt:
            raise StaleAttemptError(
                f"run {run.number} is in attempt {run.attempt}, not {attempt}: this process must end"
            )
        made = session.scalar(
            select(Checkpoint).where(Checkpoint.run_id == run_id, Checkpoint.update == update)
        )
        if made is None:
            parent = required(session, Checkpoint, run.parent_checkpoint_id, "checkpoint")
            made = Checkpoint(
                base_model_id=parent.base_model_id, parent_id=parent.id, run_id=run_id, update=update
            )
            session.add(made)
        made.name, made.path, made.sha256, made.state = name, path, sha256, "committed"
        made.votes = votes
        return made


def record_import(
    db: Database, *, base_checkpoint_id: str, name: str, path: str, sha256: str, origin: str, by: str
) -> Checkpoint:
    """Notes the finished files of an adapter that another program made.

    Args:
        base_checkpoint_id: the base's own checkpoint, which it changes.
        path: relative to the data folder.
        origin: the file that it came from.

    Raises:
        LookupError: no such checkpoint. ValueError: it is no base, or the name is empty.
    """
    if not name.strip():
        raise ValueError("the checkpoint has no name: give it one")
    with db.write() as session:
        base = required(session, Checkpoint, base_checkpoint_id, "checkpoint")
        if base.path is not None:
            raise ValueError(f"{base.name} is no base: choose the base that the file was made for")
        made = Checkpoint(base_model_id=base.base_model_id, parent_id=base.id, name=name.strip())
        made.path, made.sha256, made.origin = path, sha256, origin
        session.add(made)
        session.flush()
        audit.note(session, by, "checkpoint.import", made.id, {"name": made.name, "origin": origin})
        return made


def mark_checkpoint(db: Database, checkpoint_id: str, state: CheckpointState) -> Checkpoint:
    """Says that the files are damaged, pruned, or in order again."""
    with db.write() as session:
        checkpoint = required(session, Checkpoint, checkpoint_id, "checkpoint")
        checkpoint.state = state
        return checkpoint


def named_checkpoint(db: Database, name: str) -> Checkpoint:
    """The newest checkpoint of a name; LookupError with those that there are."""
    known = list_checkpoints(db)
    found = next((one for one in reversed(known) if name in (one.name, one.id)), None)
    if found is None:
        names = ", ".join(one.name for one in known)
        raise LookupError(f"There is no checkpoint named {name}; there are {names or 'none'}.")
    return found

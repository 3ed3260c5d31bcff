"""Prompt sets: named, versioned lists with a held-out split."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.engine import Database
from storage.lookup import checked_prompt, prompt_hash, required
from storage.models import PromptRecord, PromptSet, Split


def save_prompt_set(db: Database, name: str, train: Sequence[str], held_out: Sequence[str]) -> PromptSet:
    """The newest version of `name` if it says exactly this, else a new version that does.

    Raises:
        ValueError: empty name, no training prompts, an empty or too long prompt, or one in both splits.
    """
    if not name.strip():
        raise ValueError("the prompt set has no name: give it one")
    if not train:
        raise ValueError("the prompt set has no training prompts: give at least one")
    wanted: dict[Split, list[str]] = {
        "train": [*map(checked_prompt, train)],
        "held_out": [*map(checked_prompt, held_out)],
    }
    shared = {prompt_hash(text) for text in train} & {prompt_hash(text) for text in held_out}
    if shared:
        raise ValueError(
            f"{len(shared)} prompts are in both splits: a held-out prompt must not be trained on"
        )
    with db.write() as session:
        newest = session.scalar(
            select(PromptSet).where(PromptSet.name == name).order_by(PromptSet.version.desc())
        )
        if newest is not None and all(_texts(session, newest.id, split) == wanted[split] for split in wanted):
            return newest
        made = PromptSet(name=name, version=newest.version + 1 if newest else 1)
        session.add(made)
        session.flush()
        for split, texts in wanted.items():
            for position, text in enumerate(texts):
                row = PromptRecord(prompt_set_id=made.id, text=text, split=split, position=position)
                row.text_hash = prompt_hash(text)
                session.add(row)
        return made


def prompts_of(db: Database, prompt_set_id: str, split: Split) -> list[PromptRecord]:
    """The prompts of one split, in order."""
    with db.read() as session:
        required(session, PromptSet, prompt_set_id, "prompt set")
        return _prompts(session, prompt_set_id, split)


def list_prompt_sets(db: Database) -> list[PromptSet]:
    """The newest version of each set, by name."""
    with db.read() as session:
        rows = session.scalars(select(PromptSet).order_by(PromptSet.name, PromptSet.version))
        return list({row.name: row for row in rows}.values())


def _prompts(session: Session, prompt_set_id: str, split: Split) -> list[PromptRecord]:
    query = select(PromptRecord).where(
        PromptRecord.prompt_set_id == prompt_set_id, PromptRecord.split == split
    )
    return list(session.scalars(query.order_by(PromptRecord.position)))


def _texts(session: Session, prompt_set_id: str, split: Split) -> list[str]:
    return [row.text for row in _prompts(session, prompt_set_id, split)]

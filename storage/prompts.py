"""Prompt sets: named, versioned lists with a held-out split."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage.engine import Database
from storage.lookup import checked_prompt, prompt_hash, required
from storage.models import PromptRecord, PromptSet, Run, Split

Attributes = Mapping[str, Mapping[str, Any]]
"""Text of a prompt to what is known of it, where something is."""


@dataclass(frozen=True)
class SetView:
    """One version of a set, how many prompts each split has, and which versions there are (newest first)."""

    row: PromptSet
    train: int
    held_out: int
    versions: tuple[PromptSet, ...]

    @property
    def is_newest(self) -> bool:
        """Whether no later version took its place."""
        return self.versions[0].id == self.row.id


@dataclass(frozen=True)
class Difference:
    """What a version has that another one had not, as prompts in order of the list they stand in."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    moved: tuple[str, ...]
    """In both, but in the other split."""


def save_prompt_set(
    db: Database,
    name: str,
    train: Sequence[str],
    held_out: Sequence[str],
    attributes: Attributes | None = None,
) -> PromptSet:
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
    known = {text: dict(of_text) for text, of_text in (attributes or {}).items() if of_text}
    _check_disjoint(wanted["train"], wanted["held_out"])
    with db.write() as session:
        newest = session.scalar(
            select(PromptSet).where(PromptSet.name == name).order_by(PromptSet.version.desc())
        )
        if newest is not None and all(
            _said(session, newest.id, split) == [(text, known.get(text)) for text in wanted[split]]
            for split in wanted
        ):
            return newest
        made = PromptSet(name=name, version=newest.version + 1 if newest else 1)
        session.add(made)
        session.flush()
        for split, texts in wanted.items():
            for position, text in enumerate(texts):
                row = PromptRecord(prompt_set_id=made.id, text=text, split=split, position=position)
                row.text_hash, row.attributes = prompt_hash(text), known.get(text)
                session.add(row)
        return made


def _check_disjoint(train: Sequence[str], held_out: Sequence[str]) -> None:
    shared = {prompt_hash(text) for text in train} & {prompt_hash(text) for text in held_out}
    if shared:
        raise ValueError(
            f"{len(shared)} prompts are in both splits: a held-out prompt must not be trained on"
        )


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


def set_holding(db: Database, texts: Collection[str]) -> PromptSet | None:
    """The newest version of a set that trains on all of these prompts; None where none does."""
    wanted = {prompt_hash(text) for text in texts}
    if not wanted:
        return None
    with db.read() as session:
        query = select(PromptRecord.prompt_set_id).where(
            PromptRecord.split == "train", PromptRecord.text_hash.in_(wanted)
        )
        holding = query.group_by(PromptRecord.prompt_set_id).having(
            func.count(PromptRecord.text_hash.distinct()) == len(wanted)
        )
        return session.scalar(
            select(PromptSet).where(PromptSet.id.in_(holding)).order_by(PromptSet.id.desc()).limit(1)
        )


def get_prompt_set(db: Database, prompt_set_id: str) -> SetView:
    """One version with its numbers; LookupError when there is none with this id."""
    with db.read() as session:
        row = required(session, PromptSet, prompt_set_id, "prompt set")
        return _views(session, [row])[0]


def view_prompt_sets(db: Database) -> list[SetView]:
    """The newest version of each set with its numbers, by name."""
    rows = list_prompt_sets(db)
    with db.read() as session:
        return _views(session, rows)


def versions_of(db: Database, name: str) -> list[PromptSet]:
    """Every version of a set, newest first."""
    with db.read() as session:
        return _versions(session, name)


def difference(db: Database, older_id: str, newer_id: str) -> Difference:
    """What changed from one version to another; prompts that differ in case or spacing alone are the same."""
    with db.read() as session:
        old, new = (_by_hash(session, one) for one in (older_id, newer_id))
    return Difference(
        tuple(row.text for key, row in new.items() if key not in old),
        tuple(row.text for key, row in old.items() if key not in new),
        tuple(row.text for key, row in new.items() if key in old and old[key].split != row.split),
    )


def runs_of_set(db: Database, name: str) -> list[tuple[Run, int]]:
    """Runs that took their prompts from a set, newest first, each with the version."""
    query = select(Run, PromptSet.version).join(PromptSet, PromptSet.id == Run.prompt_set_id)
    with db.read() as session:
        rows = session.execute(query.where(PromptSet.name == name).order_by(Run.number.desc()))
        return [(run, version) for run, version in rows]


def _views(session: Session, rows: Sequence[PromptSet]) -> list[SetView]:
    counted = select(PromptRecord.prompt_set_id, PromptRecord.split, func.count())
    counted = counted.where(PromptRecord.prompt_set_id.in_([row.id for row in rows]))
    counts = {
        (set_id, split): count
        for set_id, split, count in session.execute(
            counted.group_by(PromptRecord.prompt_set_id, PromptRecord.split)
        )
    }
    return [
        SetView(
            row,
            counts.get((row.id, "train"), 0),
            counts.get((row.id, "held_out"), 0),
            tuple(_versions(session, row.name)),
        )
        for row in rows
    ]


def _versions(session: Session, name: str) -> list[PromptSet]:
    query = select(PromptSet).where(PromptSet.name == name)
    return list(session.scalars(query.order_by(PromptSet.version.desc())))


def _by_hash(session: Session, prompt_set_id: str) -> dict[str, PromptRecord]:
    required(session, PromptSet, prompt_set_id, "prompt set")
    query = select(PromptRecord).where(PromptRecord.prompt_set_id == prompt_set_id)
    rows = session.scalars(query.order_by(PromptRecord.split.desc(), PromptRecord.position))
    return {row.text_hash: row for row in rows}


def _prompts(session: Session, prompt_set_id: str, split: Split) -> list[PromptRecord]:
    query = select(PromptRecord).where(
        PromptRecord.prompt_set_id == prompt_set_id, PromptRecord.split == split
    )
    return list(session.scalars(query.order_by(PromptRecord.position)))


def _said(session: Session, prompt_set_id: str, split: Split) -> list[tuple[str, dict[str, Any] | None]]:
    return [(row.text, row.attributes) for row in _prompts(session, prompt_set_id, split)]

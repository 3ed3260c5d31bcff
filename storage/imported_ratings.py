"""Ratings of elsewhere on their way in: groups with their images and what outsiders said, each kept once.

Ids come with them, and follow from the file: a second import finds them all and adds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage import audit
from storage.engine import Database
from storage.lookup import next_number, prompt_hash
from storage.models import BaseModel, Checkpoint, GroupKind, Image, ImageGroup, RatingEvent, RatingKind, User
from storage.rating_kinds import Mark, marked
from storage.types import utc_now

OUTSIDER: Final = "imported"
"""Name of the account that imported ratings are of, and how the names of further ones begin."""
BASE: Final = "imported images"
"""Name of the base that their images are of: none that could draw."""
KIND: Final[GroupKind] = "sample"
"""Of imported groups: they are neither offered on Rate nor shown among what was drawn in Studio."""
MAX_MODEL = 120
"""Characters of a model's name."""


@dataclass(frozen=True)
class ImageIn:
    """An image whose blob is on disk."""

    id: str
    index: int
    seed: int
    sha256: str
    width: int
    height: int


@dataclass(frozen=True)
class SaidIn:
    """One rating; its shape was checked (storage.rating_kinds)."""

    id: str
    annotator: str
    """What tells outsiders apart; empty where the file does not."""
    kind: RatingKind
    image_id: str | None = None
    value: int | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)
    lead_ms: int | None = None
    at: datetime | None = None
    act_id: str = ""
    """Empty: an act of its own."""
    supersedes_id: str | None = None
    mark: Mark = ""


@dataclass(frozen=True)
class GroupIn:
    """A group with what was said of it, in order."""

    id: str
    prompt: str
    model: str
    config: Mapping[str, Any]
    images: Sequence[ImageIn]
    said: Sequence[SaidIn]
    created_at: datetime | None = None


@dataclass(frozen=True)
class Kept:
    """What was new."""

    groups: int
    ratings: int

    def __add__(self, other: Kept) -> Kept:
        return Kept(self.groups + other.groups, self.ratings + other.ratings)


def keep(db: Database, groups: Sequence[GroupIn]) -> Kept:
    """Keeps what is not there yet, in one transaction.

    Raises:
        ValueError: a group or rating is there under the same id, and is another one; or the name of an
            outsider is a person's. Nothing of these groups was kept.
    """
    with db.write() as session:
        return sum((_keep(session, group) for group in groups), Kept(0, 0))


def note_import(db: Database, source: str, kept: Kept, by: str = "local") -> None:
    """Writes into the audit log what an import added."""
    with db.write() as session:
        audit.note(session, by, "ratings.import", source, {"groups": kept.groups, "ratings": kept.ratings})


def _keep(session: Session, group: GroupIn) -> Kept:
    row = session.get(ImageGroup, group.id)
    if row is None:
        _add_group(session, group)
    elif _images_of(session, group.id) != [(one.id, one.index) for one in group.images]:
        raise ValueError(f"the studio has another group {group.id}, with other images: import it elsewhere")
    ids = [said.id for said in group.said]
    known = {one.id: one for one in session.scalars(select(RatingEvent).where(RatingEvent.id.in_(ids)))}
    if any(one.group_id != group.id for one in known.values()):
        raise ValueError(f"the studio has another rating of the ids of group {group.id}: import it elsewhere")
    new = [said for said in group.said if said.id not in known]
    number = next_number(session, RatingEvent.seq)
    for place, said in enumerate(new):
        session.add(_event(session, group.id, said, number + place))
        session.flush()  # a later one may supersede it
    return Kept(int(row is None), len(new))


def _images_of(session: Session, group_id: str) -> list[tuple[str, int]]:
    rows = session.execute(select(Image.id, Image.index).where(Image.group_id == group_id))
    return sorted(((one, index) for one, index in rows), key=lambda one: one[1])


def _add_group(session: Session, group: GroupIn) -> None:
    made = ImageGroup(id=group.id, prompt=group.prompt, prompt_hash=prompt_hash(group.prompt), kind=KIND)
    made.checkpoint_id, made.config = _model(session, group.model), dict(group.config)
    made.seeds, made.created_by = [one.seed for one in group.images], "local"
    made.state, made.finished_at = "done", utc_now()
    made.created_at = group.created_at or utc_now()
    made.seq = next_number(session, ImageGroup.seq)
    session.add(made)
    session.flush()
    session.add_all(Image(group_id=group.id, **vars(one)) for one in group.images)
    session.flush()


def _event(session: Session, group_id: str, said: SaidIn, number: int) -> RatingEvent:
    made = RatingEvent(id=said.id, seq=number, client_key=f"imported {said.id}", group_id=group_id)
    made.act_id, made.annotator_id = said.act_id or said.id, _outsider(session, said.annotator)
    made.kind, made.image_id, made.value = said.kind, said.image_id, said.value
    made.payload, made.lead_ms = marked(said.payload, said.mark), said.lead_ms
    made.supersedes_id, made.created_at = said.supersedes_id, said.at or utc_now()
    return made


def _outsider(session: Session, annotator: str) -> str:
    """Id of the account that stands for an outsider; nobody can log in with it."""
    name = f"{OUTSIDER} {annotator}".strip()
    found = session.scalar(select(User).where(User.name == name))
    if found is None:
        found = User(name=name, role="viewer", active=False)
        session.add(found)
        session.flush()
    elif found.active or found.password_hash is not None:
        raise ValueError(f"a person here is called {name}, as imported ratings would be: rename them first")
    return found.id


def _model(session: Session, model: str) -> str:
    """Id of the checkpoint that stands for the model that drew the images; it has no files."""
    base = session.scalar(select(BaseModel).where(BaseModel.name == BASE))
    if base is None:
        base = BaseModel(name=BASE, source="imported ratings", family="unknown")
        session.add(base)
        session.flush()
    name = " ".join(model.split())[:MAX_MODEL] or "unknown model"
    same = Checkpoint.base_model_id == base.id, Checkpoint.name == name
    found = session.scalar(select(Checkpoint).where(*same).limit(1))
    if found is None:
        found = Checkpoint(base_model_id=base.id, name=name, state="pruned", path="imports/no-files")
        session.add(found)
        session.flush()
    return found.id

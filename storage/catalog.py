"""What can generate, as lists for people: checkpoints and bases with what hangs on them; their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from storage import audit
from storage.engine import Database
from storage.groups import GroupView, get_group
from storage.lookup import required
from storage.models import BaseModel, Checkpoint, Image, ImageGroup, RatingEvent, Run
from storage.models_judging import Evaluation, VoteSnapshot
from storage.models_studio import Export
from storage.types import utc_now

MAX_NAME = 120
"""Characters of a checkpoint's name."""


@dataclass(frozen=True)
class CheckpointView:
    """A checkpoint with what it is of and what hangs on it.

    Attributes:
        run: that made it; None for a base or an import.
        votes: ratings that it learned from, each counted once.
        evaluations: figures that were measured of it.
        groups: that it drew.
        exports: files that were written of it.
        newest: of what is listed, whether its run made nothing later.
    """

    row: Checkpoint
    base: BaseModel
    run: Run | None
    parent: Checkpoint | None
    votes: int
    evaluations: int
    groups: int
    exports: int
    newest: bool

    @property
    def is_base(self) -> bool:
        """Whether it is the base itself."""
        return self.row.run_id is None and self.row.path is None


@dataclass(frozen=True)
class BaseView:
    """A base, its own checkpoint, and how many others were tuned on it."""

    row: BaseModel
    own: Checkpoint
    tuned: int


def view_checkpoints(db: Database) -> list[CheckpointView]:
    """Every checkpoint, newest first; damaged and pruned ones are among them."""
    with db.read() as session:
        rows = list(
            session.scalars(select(Checkpoint).order_by(Checkpoint.created_at.desc(), Checkpoint.id.desc()))
        )
        return _views(session, rows)


def view_checkpoint(db: Database, checkpoint_id: str) -> CheckpointView:
    """One of them; LookupError when there is none with this id."""
    with db.read() as session:
        return _views(session, [required(session, Checkpoint, checkpoint_id, "checkpoint")])[0]


def view_bases(db: Database) -> list[BaseView]:
    """By name."""
    with db.read() as session:
        rows = list(session.scalars(select(BaseModel).order_by(BaseModel.name)))
        own = select(Checkpoint).where(Checkpoint.run_id.is_(None), Checkpoint.parent_id.is_(None))
        owns = {one.base_model_id: one for one in session.scalars(own.where(Checkpoint.path.is_(None)))}
        counts = _counts(session, Checkpoint.base_model_id, Checkpoint.path.is_not(None))
        return [BaseView(row, owns[row.id], counts.get(row.id, 0)) for row in rows if row.id in owns]


def rename_checkpoint(db: Database, checkpoint_id: str, name: str, by: str = "local") -> Checkpoint:
    """Raises ValueError for a name that is empty or too long, or another one's on the same base."""
    name = " ".join(name.split())
    if not 1 <= len(name) <= MAX_NAME:
        raise ValueError(f"a name has 1 to {MAX_NAME} characters, this one has {len(name)}: change it")
    with db.write() as session:
        found = required(session, Checkpoint, checkpoint_id, "checkpoint")
        same = Checkpoint.base_model_id == found.base_model_id, Checkpoint.name == name
        if session.scalar(select(Checkpoint.id).where(*same, Checkpoint.id != found.id).limit(1)):
            raise ValueError(f"another checkpoint of this base is called {name}: choose another name")
        audit.note(session, by, "checkpoint.rename", found.id, {"before": found.name, "after": name})
        found.name = name
        return found


def _found(session: Session, checkpoint_id: str, *, needs_files: bool) -> Checkpoint:
    found = required(session, Checkpoint, checkpoint_id, "checkpoint")
    if needs_files and found.state != "committed":
        raise LookupError(f"the files of checkpoint {found.name} are {found.state}: choose another one")
    return found


def promote(db: Database, checkpoint_id: str, *, is_candidate: bool = True, by: str = "local") -> Checkpoint:
    """Makes it the candidate of its base, which has one at most; or takes that back.

    Raises:
        LookupError: no such checkpoint, or its files are damaged or pruned.
    """
    with db.write() as session:
        found = _found(session, checkpoint_id, needs_files=is_candidate)
        others = select(Checkpoint).where(
            Checkpoint.base_model_id == found.base_model_id, Checkpoint.promoted_at.is_not(None)
        )
        before = [one.id for one in session.scalars(others) if one.id != found.id]
        for one in session.scalars(others):
            one.promoted_at = None
        found.promoted_at = utc_now() if is_candidate else None
        act = "checkpoint.promote" if is_candidate else "checkpoint.withdraw"
        audit.note(session, by, act, found.id, {"name": found.name, "instead_of": before})
        return found


def pin(db: Database, checkpoint_id: str, *, is_pinned: bool = True, by: str = "local") -> Checkpoint:
    """Keeps the files of a checkpoint whatever the rules of retention say; or takes that back. Audited.

    Raises:
        LookupError: no such checkpoint, or its files are damaged or pruned.
    """
    with db.write() as session:
        found = _found(session, checkpoint_id, needs_files=is_pinned)
        found.pinned = is_pinned
        audit.note(
            session, by, f"checkpoint.{'pin' if is_pinned else 'unpin'}", found.id, {"name": found.name}
        )
        return found


def group_of_image(db: Database, image_id: str) -> GroupView:
    """The group that an image is of; LookupError when there is no such image."""
    with db.read() as session:
        group_id = required(session, Image, image_id, "image").group_id
    return get_group(db, group_id)


def _views(session: Session, rows: Sequence[Checkpoint]) -> list[CheckpointView]:
    bases = {row.id: row for row in session.scalars(select(BaseModel))}
    run_ids = {row.run_id for row in rows if row.run_id}
    runs = {row.id: row for row in session.scalars(select(Run).where(Run.id.in_(run_ids)))}
    parent_ids = {row.parent_id for row in rows if row.parent_id}
    of_parents = select(Checkpoint).where(Checkpoint.id.in_(parent_ids))
    parents = {row.id: row for row in session.scalars(of_parents)}
    figures = _counts(session, Evaluation.checkpoint_id)
    groups = _counts(session, ImageGroup.checkpoint_id)
    exports = _counts(session, Export.checkpoint_id)
    votes = _votes(session, rows)
    last = _last_updates(session)
    return [
        CheckpointView(
            row,
            bases[row.base_model_id],
            runs.get(row.run_id or ""),
            parents.get(row.parent_id or ""),
            votes.get(row.id, 0),
            figures.get(row.id, 0),
            groups.get(row.id, 0),
            exports.get(row.id, 0),
            newest=row.run_id is None or last.get(row.run_id) == row.update,
        )
        for row in rows
    ]


def _counts(
    session: Session, column: InstrumentedAttribute[Any], *where: ColumnElement[bool]
) -> dict[str, int]:
    rows = session.execute(select(column, func.count()).where(*where).group_by(column))
    return {row[0]: row[1] for row in rows}


def _last_updates(session: Session) -> dict[str, int]:
    usable = select(Checkpoint.run_id, func.max(Checkpoint.update)).where(Checkpoint.state == "committed")
    rows = session.execute(usable.where(Checkpoint.run_id.is_not(None)).group_by(Checkpoint.run_id))
    return {run_id: update for run_id, update in rows if run_id is not None}


def _votes(session: Session, rows: Sequence[Checkpoint]) -> dict[str, int]:
    """Checkpoint id to how many rating events its snapshots have together."""
    named = {row.id: snapshots_in(row.votes or {}) for row in rows}
    wanted = {one for ids in named.values() for one in ids}
    events = {
        row.id: set(row.events)
        for row in session.scalars(select(VoteSnapshot).where(VoteSnapshot.id.in_(wanted)))
    }
    return {
        one: len(set[int]().union(*(events.get(snapshot, set()) for snapshot in ids)))
        for one, ids in named.items()
        if ids
    }


def snapshots_in(votes: Mapping[str, Any]) -> list[str]:
    """Every snapshot that a checkpoint names: its own, and those of its rewards and of whom it asked."""
    inner = [one for value in votes.values() if isinstance(value, dict) for one in snapshots_in(value)]
    return [*([str(votes["snapshot"])] if votes.get("snapshot") else []), *inner]


@dataclass(frozen=True)
class PreferenceCounts:
    """How much people have said: ratings, groups that have some, people who gave them, frozen snapshots."""

    ratings: int
    groups: int
    people: int
    snapshots: int


def preference_counts(db: Database) -> PreferenceCounts:
    """Skips and undos are no ratings; what was taken back is counted as long as it stands in the history."""
    said = RatingEvent.kind.not_in(("skip", "undo"))
    counted = (func.count(), RatingEvent.group_id.distinct(), RatingEvent.annotator_id.distinct())
    with db.read() as session:
        ratings, groups, people = session.execute(
            select(counted[0], func.count(counted[1]), func.count(counted[2])).where(said)
        ).one()
        snapshots = session.scalar(select(func.count()).select_from(VoteSnapshot)) or 0
    return PreferenceCounts(ratings, groups, people, snapshots)

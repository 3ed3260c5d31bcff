"""What a fit or a statistic needs of groups that people judged: one query for each table, however many."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import select, update

from storage.assignments import OFFERED, WAITED_FOR
from storage.engine import Database
from storage.models import Checkpoint, Image, ImageGroup, RatingEvent, Score, User
from storage.models_judging import PreferenceFit, VoteSnapshot
from storage.models_studio import CheckItem
from storage.rating_kinds import is_check
from storage.ratings_current import not_undone

_PER_QUERY = 500
"""Ids in one SQL statement."""


@dataclass(frozen=True)
class JudgedGroup:
    """A group as those who learn from votes see it."""

    group: ImageGroup
    images: tuple[Image, ...]
    """In the order in which they were shown."""


def said_votes(db: Database) -> list[RatingEvent]:
    """All that was said and not taken back, in order; answers to repeats among them, which are no votes.

    What was said of groups whose answer is known is not among them: storage.checks counts it.
    """
    with db.read() as session:
        said = not_undone(list(session.scalars(select(RatingEvent).order_by(RatingEvent.seq))))
    return [event for event in said if not is_check(event)]


def judged_groups(db: Database, group_ids: Collection[str]) -> dict[str, JudgedGroup]:
    """Group id to group and images; ids that are none are absent."""
    groups: dict[str, ImageGroup] = {}
    images: dict[str, list[Image]] = {}
    with db.read() as session:
        for part in _parts(group_ids):
            for group in session.scalars(select(ImageGroup).where(ImageGroup.id.in_(part))):
                groups[group.id], images[group.id] = group, []
            for image in session.scalars(select(Image).where(Image.group_id.in_(part)).order_by(Image.index)):
                images[image.group_id].append(image)
    return {one: JudgedGroup(group, tuple(images[one])) for one, group in groups.items()}


def scores_of(db: Database, group_ids: Collection[str]) -> dict[str, dict[str, Score]]:
    """Image id to reward name to its score of the newest version, of all images of some groups."""
    found: dict[str, dict[str, Score]] = {}
    with db.read() as session:
        for part in _parts(group_ids):
            rows = (
                select(Score)
                .join(Image, Image.id == Score.image_id)
                .where(Image.group_id.in_(part))
                .order_by(Score.version)
            )
            for score in session.scalars(rows):
                found.setdefault(score.image_id, {})[score.reward] = score
    return found


def names_of(db: Database, user_ids: Collection[str]) -> dict[str, str]:
    """User id to name."""
    with db.read() as session:
        return {user.id: user.name for user in session.scalars(select(User).where(User.id.in_(user_ids)))}


def checkpoints_of(db: Database, checkpoint_ids: Collection[str]) -> dict[str, Checkpoint]:
    """Id to checkpoint, those whose files are gone too."""
    with db.read() as session:
        rows = session.scalars(select(Checkpoint).where(Checkpoint.id.in_(checkpoint_ids)))
        return {row.id: row for row in rows}


def snapshot_hashes(db: Database, snapshot_ids: Collection[str]) -> dict[str, str]:
    """Snapshot id to the hash of its votes."""
    with db.read() as session:
        rows = session.scalars(select(VoteSnapshot).where(VoteSnapshot.id.in_(snapshot_ids)))
        return {row.id: row.hash for row in rows}


def unrated_groups(db: Database, limit: int) -> list[str]:
    """Ids of the newest finished groups that could be rated and of which nobody has said anything."""
    known = select(RatingEvent.group_id).union(select(CheckItem.group_id))
    wanted = ImageGroup.state == "done", ImageGroup.kind.in_(OFFERED), ImageGroup.id.not_in(known)
    with db.read() as session:
        newest = select(ImageGroup.id).where(*wanted).order_by(ImageGroup.seq.desc()).limit(limit)
        return list(session.scalars(newest))


def set_priorities(db: Database, priorities: dict[str, float | None], fit_id: str | None = None) -> bool:
    """Group id to how much a rating of it would teach; None where nothing is known.

    Args:
        fit_id: the head that says so. Where it has gone out of use meanwhile nothing is written, and False
            is returned.
    """
    with db.write() as session:
        fit = session.get(PreferenceFit, fit_id) if fit_id is not None else None
        if fit is not None and fit.state != "applied":
            return False
        for part in _parts(priorities):
            for group in session.scalars(select(ImageGroup).where(ImageGroup.id.in_(part))):
                group.priority = priorities[group.id]
        return True


def ask_about(db: Database, run_id: str, group_ids: Collection[str]) -> None:
    """Puts these rollouts of a run first in line; the others of the run are waited for no longer.

    They all stay open to be rated, and what is said of any of them is a vote on its images.
    """
    ours = update(ImageGroup).where(ImageGroup.run_id == run_id, ImageGroup.kind == "rollout")
    with db.write() as session:
        session.execute(ours.where(ImageGroup.phase == WAITED_FOR).values(phase=None))
        session.execute(
            ours.where(ImageGroup.id.in_(group_ids), ImageGroup.state == "done").values(phase=WAITED_FOR)
        )


def _parts(ids: Collection[str]) -> Iterator[Sequence[str]]:
    left = iter(ids)
    while part := list(islice(left, _PER_QUERY)):
        yield part

"""Groups with what each annotator says of them: two people's stars are two scales, and their choices two."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage.engine import Database
from storage.exclusion import counted
from storage.groups import GroupView, views
from storage.models import ImageGroup, RatingEvent
from storage.ratings_current import RatingsView, standing, view_of


@dataclass(frozen=True)
class RatedGroup(GroupView):
    """A group, and what holds now of each annotator who judged it."""

    said: list[RatingsView]


def rated_groups(db: Database, limit: int) -> list[RatedGroup]:
    """The groups about whose images somebody said something that still stands, the last rated first.

    Args:
        limit: how many rated groups are looked at; those whose ratings were all taken back, or do not count,
            are left out.
    """
    last = func.max(RatingEvent.seq)
    query = select(RatingEvent.group_id).where(RatingEvent.kind.not_in(("skip", "undo")))
    query = query.group_by(RatingEvent.group_id).order_by(last.desc()).limit(limit)
    with db.read() as session:
        ids = list(session.scalars(query))
        rows = {g.id: g for g in session.scalars(select(ImageGroup).where(ImageGroup.id.in_(ids)))}
        said = _said(session, ids)
        shown = views(session, [rows[group_id] for group_id in ids if said[group_id]])
    return [RatedGroup(one.group, one.images, one.checkpoint, said[one.group.id]) for one in shown]


def _said(session: Session, ids: list[str]) -> dict[str, list[RatingsView]]:
    """By group, of each annotator in turn; who only skipped says nothing."""
    query = select(RatingEvent).where(RatingEvent.group_id.in_(ids)).order_by(RatingEvent.seq)
    by_person: dict[tuple[str, str], list[RatingEvent]] = {}
    for event in counted(session, standing(list(session.scalars(query)))):
        by_person.setdefault((event.group_id, event.annotator_id), []).append(event)
    found: dict[str, list[RatingsView]] = {group_id: [] for group_id in ids}
    for (group_id, _), events in by_person.items():
        view = view_of(events)
        if view.stars or view.best or view.pairs or view.order or view.flags:
            found[group_id].append(view)
    return found

"""From the append-only history of a group to what holds now."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.models import RatingEvent


@dataclass
class RatingsView:
    """What holds now in one group."""

    stars: dict[str, int] = field(default_factory=dict)
    """Image id to 1..5."""
    best: str | None = None
    """Image id."""
    skipped: bool = False
    """The last word was a skip."""


def current(session: Session, group_ids: Collection[str], annotator_id: str | None) -> dict[str, RatingsView]:
    """Group id to its current ratings: of one annotator, or the last word of anyone."""
    query = select(RatingEvent).where(RatingEvent.group_id.in_(group_ids)).order_by(RatingEvent.seq)
    if annotator_id is not None:
        query = query.where(RatingEvent.annotator_id == annotator_id)
    views = {group_id: RatingsView() for group_id in group_ids}
    for event in standing(list(session.scalars(query))):
        _apply(views[event.group_id], event)
    return views


def standing(events: list[RatingEvent]) -> list[RatingEvent]:
    """The events that no undo took back, in order."""
    undone = {event.act_id for event in events if event.kind == "undo"}
    return [event for event in events if event.act_id not in undone]


def _apply(view: RatingsView, event: RatingEvent) -> None:
    view.skipped = event.kind == "skip"
    if event.kind == "stars" and event.image_id is not None and event.value is not None:
        view.stars[event.image_id] = event.value
    elif event.kind == "best":
        view.best = event.image_id

"""What one annotator learns of their own work: how long it took, and how often others say the same."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy import func, select

from storage.checks import says_the_same
from storage.engine import Database
from storage.models import RatingEvent
from storage.rating_kinds import is_vote
from storage.ratings_current import not_undone, view_of

MIN_SHARED = 30
"""Groups that somebody else judged too, before a share says anything."""
_LONGEST_MS = 5 * 60 * 1000
"""Of looking at one group: after that the annotator was elsewhere."""


@dataclass(frozen=True)
class Shared:
    """How often others said the same.

    Attributes:
        share: of the items, 0 to 1; None where there are too few.
        items: groups that somebody else judged in a way that can be compared.
    """

    share: float | None
    items: int


def with_others(db: Database, annotator_id: str) -> Shared:
    """Of the groups that somebody else judged too, in how many they agree; over several others, the mean."""
    mine = select(RatingEvent.group_id).where(RatingEvent.annotator_id == annotator_id)
    query = select(RatingEvent).where(RatingEvent.group_id.in_(mine)).order_by(RatingEvent.seq)
    with db.read() as session:
        events = [event for event in not_undone(list(session.scalars(query))) if is_vote(event)]
    said: dict[str, dict[str, list[RatingEvent]]] = defaultdict(lambda: defaultdict(list))
    for event in events:
        said[event.group_id][event.annotator_id].append(event)
    shares = []
    for by_person in said.values():
        views = {who: view_of(votes) for who, votes in by_person.items()}
        own = views.pop(annotator_id, None)
        same = [one for view in views.values() if own and (one := says_the_same(own, view)) is not None]
        if same:
            shares.append(sum(same) / len(same))
    enough = len(shares) >= MIN_SHARED
    return Shared(sum(shares) / len(shares) if enough else None, len(shares))


def seconds_of_last(db: Database, annotator_id: str, acts: int) -> float:
    """How long the annotator looked at what they judged last, this many acts of it."""
    last = (
        select(func.max(RatingEvent.lead_ms))
        .where(RatingEvent.annotator_id == annotator_id, RatingEvent.kind != "undo")
        .group_by(RatingEvent.act_id)
        .order_by(func.max(RatingEvent.seq).desc())
        .limit(acts)
    )
    with db.read() as session:
        return sum(min(looked or 0, _LONGEST_MS) for looked in session.scalars(last)) / 1000

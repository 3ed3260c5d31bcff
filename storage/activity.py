"""What each person has done here, and when they were last seen doing something."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from storage.engine import Database
from storage.models import Assignment, ImageGroup, RatingEvent, Run
from storage.models_judging import BlindVote
from storage.models_studio import Audit
from storage.types import utc_now


@dataclass(frozen=True)
class Activity:
    """Of one person.

    Attributes:
        rated: groups in all.
        rated_today: since midnight UTC.
        skipped: groups that they gave back.
        leased: groups that are lent to them now.
        last_seen: when they last voted, generated, started a run or changed something here.
    """

    rated: int = 0
    rated_today: int = 0
    skipped: int = 0
    leased: int = 0
    last_seen: datetime | None = None


def activity(db: Database, now: datetime | None = None) -> dict[str, Activity]:
    """User id to what they did; who never did anything is absent."""
    now = now or utc_now()
    midnight = datetime.combine(now.date(), time(), UTC)
    first = Assignment.is_repeat.is_(False)
    rated = Assignment.outcome == "rated", first
    with db.read() as session:
        in_all = _groups(session, *rated)
        today = _groups(session, *rated, Assignment.done_at >= midnight)
        skipped = _groups(session, Assignment.outcome == "skipped", first)
        leased = _groups(session, Assignment.done_at.is_(None), Assignment.lease_until >= now)
        seen = _last_seen(session)
    return {
        user: Activity(
            in_all.get(user, 0), today.get(user, 0), skipped.get(user, 0), leased.get(user, 0), seen.get(user)
        )
        for user in {*in_all, *skipped, *leased, *seen}
    }


def _groups(session: Session, *where: Any) -> dict[str, int]:
    count = func.count(Assignment.group_id.distinct())
    rows = session.execute(
        select(Assignment.annotator_id, count).where(*where).group_by(Assignment.annotator_id)
    )
    return {user: int(number) for user, number in rows}


def _last_seen(session: Session) -> dict[str, datetime]:
    found: dict[str, datetime] = {}
    for query in _acts():
        for user, at in session.execute(query):
            found[user] = max(at, found.get(user, at))
    return found


def _acts() -> Iterator[Select[str, datetime]]:
    """For each kind of act, who did it and when last. Groups of a run are its own, not its owner's."""
    by_hand = ImageGroup.kind.in_(("studio", "compare"))
    for who, when, where in (
        (RatingEvent.annotator_id, RatingEvent.created_at, None),
        (BlindVote.annotator_id, BlindVote.created_at, None),
        (Audit.user_id, Audit.at, None),
        (ImageGroup.created_by, ImageGroup.created_at, by_hand),
        (Run.owner_id, Run.created_at, None),
    ):
        query = select(who, func.max(when)).group_by(who)
        yield query if where is None else query.where(where)

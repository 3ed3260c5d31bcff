"""Which annotator has which group on lease. Steps inside the transactions of storage.ratings."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select, update
from sqlalchemy.orm import Session

from storage.models import Assignment, ImageGroup, Outcome
from storage.ratings_current import current
from storage.types import utc_now

RATEABLE = ("studio", "compare")


def lease(
    session: Session, annotator_id: str, duration: timedelta, exclude: Collection[str]
) -> ImageGroup | None:
    """The group that the annotator has on lease, renewed; else the best open one, now on lease."""
    now = utc_now()
    expire(session, now)
    assignment = session.scalar(_held(annotator_id, exclude).limit(1))
    if assignment is not None:
        assignment.lease_until = now + duration
        return session.get(ImageGroup, assignment.group_id)
    group = session.scalar(_open(annotator_id, exclude).limit(1))
    if group is not None:
        session.add(Assignment(group_id=group.id, annotator_id=annotator_id, lease_until=now + duration))
    return group


def lease_this(session: Session, annotator_id: str, group_id: str, duration: timedelta) -> ImageGroup | None:
    """This very group, on lease; None when it cannot be rated or the annotator judged it already."""
    now = utc_now()
    expire(session, now)
    held = session.scalar(_held(annotator_id, ()).where(Assignment.group_id == group_id))
    if held is not None:
        held.lease_until = now + duration
        return session.get(ImageGroup, group_id)
    group = session.scalar(_open(annotator_id, ()).where(ImageGroup.id == group_id))
    if group is not None:
        session.add(Assignment(group_id=group_id, annotator_id=annotator_id, lease_until=now + duration))
    return group


def upcoming(session: Session, annotator_id: str, exclude: Collection[str], limit: int) -> list[ImageGroup]:
    """What `lease` would give, one after the other, if nothing else happened."""
    held = [row.group_id for row in session.scalars(_held(annotator_id, exclude).limit(limit))]
    groups = list(session.scalars(select(ImageGroup).where(ImageGroup.id.in_(held))))
    return (groups + list(session.scalars(_open(annotator_id, exclude).limit(limit))))[:limit]


def _held(annotator_id: str, exclude: Collection[str]) -> Select[Assignment]:
    """Leases of the annotator, the first first; those that ran out are gone after `expire`."""
    mine = Assignment.annotator_id == annotator_id, Assignment.done_at.is_(None)
    query = select(Assignment).where(*mine, Assignment.group_id.not_in(exclude))
    return query.order_by(Assignment.id)


def expire(session: Session, now: datetime) -> None:
    """Takes back every lease that ran out."""
    late = update(Assignment).where(Assignment.done_at.is_(None), Assignment.lease_until < now)
    session.execute(late.values(done_at=now, outcome="expired"))


def _open(annotator_id: str, exclude: Collection[str]) -> Select[ImageGroup]:
    """Finished groups that the annotator neither judged nor holds, the least seen first, then the newest."""
    settled = select(Assignment.group_id).where(
        Assignment.annotator_id == annotator_id,
        or_(Assignment.outcome.in_(("rated", "skipped")), Assignment.done_at.is_(None)),
    )
    wanted = ImageGroup.state == "done", ImageGroup.kind.in_(RATEABLE), ImageGroup.id.not_in(settled)
    query = select(ImageGroup).where(*wanted, ImageGroup.id.not_in(exclude))
    return query.order_by(_attention(), ImageGroup.seq.desc())


def _attention() -> ColumnElement[int]:
    """How many annotators judged the group or are at it."""
    counted = or_(Assignment.outcome == "rated", Assignment.done_at.is_(None))
    return select(func.count()).where(Assignment.group_id == ImageGroup.id, counted).scalar_subquery()


def open_count(session: Session, annotator_id: str) -> int:
    """Groups that the annotator may still rate, those on lease to them included."""
    judged = select(Assignment.group_id).where(
        Assignment.annotator_id == annotator_id, Assignment.outcome.in_(("rated", "skipped"))
    )
    wanted = ImageGroup.state == "done", ImageGroup.kind.in_(RATEABLE), ImageGroup.id.not_in(judged)
    return session.scalar(select(func.count()).select_from(ImageGroup).where(*wanted)) or 0


def touch(session: Session, group_id: str, annotator_id: str, outcome: Outcome, lease_seconds: int) -> None:
    """After a single rating: the lease is renewed; a group rated without one (in the studio) is judged."""
    latest = _latest(session, group_id, annotator_id)
    now = utc_now()
    if latest is None:
        done: dict[str, Any] = {"lease_until": now, "done_at": now, "outcome": outcome}
        session.add(Assignment(group_id=group_id, annotator_id=annotator_id, **done))
    elif latest.outcome is None:
        latest.lease_until = now + timedelta(seconds=lease_seconds)
    elif latest.outcome == "expired":
        until = now + timedelta(seconds=lease_seconds)
        session.add(Assignment(group_id=group_id, annotator_id=annotator_id, lease_until=until))
    else:
        latest.outcome = outcome


def finish(session: Session, group_id: str, annotator_id: str, outcome: Outcome) -> None:
    """The annotator is done with the group, whether or not the lease still ran."""
    latest = _latest(session, group_id, annotator_id)
    if latest is None or latest.outcome == "expired":
        latest = Assignment(group_id=group_id, annotator_id=annotator_id, lease_until=utc_now())
        session.add(latest)
    latest.outcome, latest.done_at = outcome, latest.done_at or utc_now()
    session.flush()


def reopen(session: Session, group_id: str, annotator_id: str, lease_seconds: int) -> None:
    """After an undo that left nothing standing: the group is on lease to the annotator again."""
    left = current(session, [group_id], annotator_id)[group_id]
    latest = _latest(session, group_id, annotator_id)
    if latest is None or left.stars or left.best or left.skipped:
        return
    if latest.outcome in ("rated", "skipped"):
        latest.outcome, latest.done_at = None, None
        latest.lease_until = utc_now() + timedelta(seconds=lease_seconds)


def _latest(session: Session, group_id: str, annotator_id: str) -> Assignment | None:
    mine = Assignment.group_id == group_id, Assignment.annotator_id == annotator_id
    unfinished_first = Assignment.done_at.is_not(None), Assignment.done_at.desc()
    return session.scalar(select(Assignment).where(*mine).order_by(*unfinished_first).limit(1))

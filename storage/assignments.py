"""Which annotator has which group on lease. Steps inside the transactions of storage.ratings."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BindParameter, Select, bindparam, select, update
from sqlalchemy.orm import Session

from storage import offers
from storage.models import Assignment, ImageGroup, Outcome
from storage.offers import OFFERED as OFFERED
from storage.offers import RATEABLE as RATEABLE
from storage.offers import WAITED_FOR as WAITED_FOR
from storage.types import UTCDateTime, utc_now


def lease(
    session: Session, annotator_id: str, duration: timedelta, exclude: Collection[str]
) -> ImageGroup | None:
    """The group that the annotator has on lease, renewed; else the best open one, now on lease."""
    now = utc_now()
    expire(session, now)
    assignment = session.scalar(_FIRST_HELD, {"annotator": annotator_id, "taken": list(exclude)})
    if assignment is not None:
        assignment.lease_until = now + duration
        return session.get(ImageGroup, assignment.group_id)
    drawn = offers.draw(session, annotator_id, exclude)
    if drawn is None:
        return None
    group, again = drawn
    lent = Assignment(group_id=group.id, annotator_id=annotator_id, lease_until=now + duration)
    lent.is_repeat = again
    session.add(lent)
    _recount(session, group.id)
    return group


def lease_this(session: Session, annotator_id: str, group_id: str, duration: timedelta) -> ImageGroup | None:
    """This very group, on lease; None when it cannot be rated or the annotator judged it already."""
    now = utc_now()
    expire(session, now)
    held = session.scalar(_held(annotator_id, ()).where(Assignment.group_id == group_id))
    if held is not None:
        held.lease_until = now + duration
        return session.get(ImageGroup, group_id)
    anyone = offers.open_to(annotator_id, (), None, RATEABLE)
    group = session.scalar(anyone.where(ImageGroup.id == group_id))
    if group is not None:
        session.add(Assignment(group_id=group_id, annotator_id=annotator_id, lease_until=now + duration))
        _recount(session, group_id)
    return group


def renew(session: Session, annotator_id: str, group_id: str, duration: timedelta) -> None:
    """The lease of this group goes on, where there is one."""
    for held in session.scalars(_held(annotator_id, ()).where(Assignment.group_id == group_id)):
        held.lease_until = utc_now() + duration


def is_asked_again(session: Session, group_id: str, annotator_id: str) -> bool:
    """Whether the group is on lease to the annotator for the second time.

    An answer that comes after such a lease ran out changes the vote, like any other.
    """
    lent = _latest(session, group_id, annotator_id, is_repeat=True)
    return lent is not None and lent.done_at is None


def _held(annotator_id: str, exclude: Collection[str]) -> Select[Assignment]:
    """Leases of the annotator, the first first; those that ran out are gone after `expire`."""
    mine = Assignment.annotator_id == bindparam("annotator", annotator_id), Assignment.done_at.is_(None)
    taken: BindParameter[str] = bindparam("taken", list(exclude), expanding=True)
    query = select(Assignment).where(*mine, Assignment.group_id.not_in(taken))
    return query.order_by(Assignment.id)


def expire(session: Session, now: datetime) -> None:
    """Takes back every lease that ran out."""
    _recount(session, *session.scalars(_EXPIRE, {"now": now}))


def touch(
    session: Session, group_id: str, annotator_id: str, outcome: Outcome, lease_seconds: int, is_repeat: bool
) -> None:
    """After a single rating: the lease is renewed; a group rated without one (in the studio) is judged."""
    latest = _latest(session, group_id, annotator_id, is_repeat)
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
    _recount(session, group_id)


def finish(session: Session, group_id: str, annotator_id: str, outcome: Outcome, is_repeat: bool) -> None:
    """The annotator is done with the group, whether or not the lease still ran."""
    latest = _latest(session, group_id, annotator_id, is_repeat)
    if latest is None or latest.outcome == "expired":
        latest = Assignment(group_id=group_id, annotator_id=annotator_id, lease_until=utc_now())
        latest.is_repeat = is_repeat
        session.add(latest)
    latest.outcome, latest.done_at = outcome, latest.done_at or utc_now()
    _recount(session, group_id)


def reopen(session: Session, group_id: str, annotator_id: str, lease_seconds: int, is_repeat: bool) -> None:
    """After an undo that left nothing standing: the group is on lease to the annotator again."""
    latest = _latest(session, group_id, annotator_id, is_repeat)
    if latest is None or latest.outcome not in ("rated", "skipped"):
        return
    other = _latest(session, group_id, annotator_id, not is_repeat)
    if other is not None and other.done_at is None:
        # On lease as a repeat of the vote that is gone now: that lease is the vote's own from here on.
        latest.outcome, other.is_repeat = "expired", is_repeat
    else:
        latest.outcome, latest.done_at = None, None
        latest.lease_until = utc_now() + timedelta(seconds=lease_seconds)
    _recount(session, group_id)


def reopen_to_all(session: Session, group_id: str, voters: Collection[str]) -> None:
    """The group may come again to who answered it without a vote: it was a check, and is none any more."""
    answered = update(Assignment).where(Assignment.group_id == group_id, Assignment.outcome.is_not(None))
    session.execute(answered.where(Assignment.annotator_id.not_in(voters)).values(outcome="expired"))
    _recount(session, group_id)


def _recount(session: Session, *group_ids: str) -> None:
    """Keeps how many people are at these groups: every vote asks it of all, and counting takes long."""
    session.flush()
    if group_ids:
        session.execute(_RECOUNT, {"groups": group_ids})


def _latest(session: Session, group_id: str, annotator_id: str, is_repeat: bool) -> Assignment | None:
    """The open one, else the one that ended last."""
    said = {"group": group_id, "annotator": annotator_id, "is_repeat": is_repeat}
    return session.scalar(_LATEST, said)


# Every vote asks these: to put one together takes longer than to run it, so it is done once.
_FIRST_HELD = _held("", ()).limit(1)
_LATEST = (
    select(Assignment)
    .where(
        Assignment.group_id == bindparam("group", ""),
        Assignment.annotator_id == bindparam("annotator", ""),
        Assignment.is_repeat == bindparam("is_repeat", False),
    )
    .order_by(Assignment.done_at.is_not(None), Assignment.done_at.desc())
    .limit(1)
)
_NOW = bindparam("now", type_=UTCDateTime())
_EXPIRE = (
    update(Assignment)
    .where(Assignment.done_at.is_(None), Assignment.lease_until < _NOW)
    .values(done_at=_NOW, outcome="expired")
    .returning(Assignment.group_id)
    .execution_options(synchronize_session=False)
)
_RECOUNT = (
    update(ImageGroup)
    .where(ImageGroup.id.in_(bindparam("groups", [], expanding=True)))
    .values(attention=offers.attention())
    .execution_options(synchronize_session=False)
)

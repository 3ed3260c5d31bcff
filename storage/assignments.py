"""Which annotator has which group on lease. Steps inside the transactions of storage.ratings."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, func, or_, select, update
from sqlalchemy.orm import Session

from storage.models import Assignment, ImageGroup, Outcome, Run
from storage.runs import ENDED
from storage.types import utc_now

RATEABLE = ("studio", "compare", "rollout")
"""Kinds of groups that may be rated by whoever opens them."""
OFFERED = ("studio", "rollout")
"""Of these, the kinds that come by themselves. What was drawn to compare checkpoints is what they are judged
by: a model that learned from it would be tested on what it knows.
"""
WAITED_FOR = "waiting for ratings"
"""The phase of a finished rollout whose run waits for what people say of it (`storage.judged.ask_about`)."""
RANDOM_SHARE = 0.15
"""Of the draws, so that a head is not taught by its own doubts alone."""
REPEAT_EVERY = 20
"""Tasks; the last of so many is one that the annotator rated before."""
REPEAT_AFTER = 20
"""Groups that an annotator has rated before any comes again."""
_FRESH = 10
"""Groups of the annotator's that are too recent to be asked again: they would be remembered."""


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
    group, again = _draw(session, annotator_id, _drawn(session, annotator_id), exclude)
    if group is not None:
        lent = Assignment(group_id=group.id, annotator_id=annotator_id, lease_until=now + duration)
        lent.is_repeat = again
        session.add(lent)
    return group


def lease_this(session: Session, annotator_id: str, group_id: str, duration: timedelta) -> ImageGroup | None:
    """This very group, on lease; None when it cannot be rated or the annotator judged it already."""
    now = utc_now()
    expire(session, now)
    held = session.scalar(_held(annotator_id, ()).where(Assignment.group_id == group_id))
    if held is not None:
        held.lease_until = now + duration
        return session.get(ImageGroup, group_id)
    group = session.scalar(_open(annotator_id, (), RATEABLE).where(ImageGroup.id == group_id))
    if group is not None:
        session.add(Assignment(group_id=group_id, annotator_id=annotator_id, lease_until=now + duration))
    return group


def upcoming(session: Session, annotator_id: str, exclude: Collection[str], limit: int) -> list[ImageGroup]:
    """What `lease` would give, one after the other, if nothing else happened."""
    held = [row.group_id for row in session.scalars(_held(annotator_id, exclude).limit(limit))]
    groups = list(session.scalars(select(ImageGroup).where(ImageGroup.id.in_(held))))
    drawn = _drawn(session, annotator_id)
    while len(groups) < limit:
        seen = [*exclude, *(group.id for group in groups)]
        group, _ = _draw(session, annotator_id, drawn, seen)
        if group is None:
            break
        groups.append(group)
        drawn += 1
    return groups


def is_asked_again(session: Session, group_id: str, annotator_id: str) -> bool:
    """Whether the group is on lease to the annotator for the second time.

    An answer that comes after such a lease ran out changes the vote, like any other.
    """
    lent = _latest(session, group_id, annotator_id, is_repeat=True)
    return lent is not None and lent.done_at is None


def _drawn(session: Session, annotator_id: str) -> int:
    """How many tasks the annotator has had."""
    return session.scalar(select(func.count()).where(Assignment.annotator_id == annotator_id)) or 0


def _draw(
    session: Session, annotator_id: str, number: int, exclude: Collection[str]
) -> tuple[ImageGroup | None, bool]:
    """The annotator's next task, the `number`-th from 0, and whether they rated it before."""
    best = session.scalar(_open(annotator_id, exclude).limit(1))
    if best is None or best.kind == "rollout":  # nothing is left, or a run waits
        return best, False
    again = _repeat(session, annotator_id, number, exclude)
    if again is not None:
        return again, True
    if best.priority is None or _lot(annotator_id, number, "random") >= RANDOM_SHARE:
        return best, False
    return _any_like(session, annotator_id, number, exclude, best), False


def _lot(annotator_id: str, number: int, what: str) -> float:
    """A number in [0, 1) that follows from its arguments: a draw can be foreseen, and tested."""
    digest = hashlib.sha256(f"{annotator_id}/{number}/{what}".encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48


def _any_like(
    session: Session, annotator_id: str, number: int, exclude: Collection[str], best: ImageGroup
) -> ImageGroup:
    """Any open group that was seen as seldom as the best one, whatever its priority."""
    seen = session.scalar(select(_attention()).where(ImageGroup.id == best.id))
    peers = _open(annotator_id, exclude).where(_attention() == seen)
    count = session.scalar(select(func.count()).select_from(peers.order_by(None).subquery())) or 1
    place = int(_lot(annotator_id, number, "which") * count)
    return session.scalar(peers.order_by(None).order_by(ImageGroup.seq).offset(place).limit(1)) or best


def _repeat(session: Session, annotator_id: str, number: int, exclude: Collection[str]) -> ImageGroup | None:
    """A group that the annotator rated before and was not asked about twice; None when it is not time."""
    if (number + 1) % REPEAT_EVERY:
        return None
    mine = Assignment.annotator_id == annotator_id
    asked_twice = select(Assignment.group_id).where(mine, Assignment.is_repeat)
    rated = (
        select(ImageGroup)
        .join(Assignment, Assignment.group_id == ImageGroup.id)
        .where(mine, Assignment.outcome == "rated", Assignment.is_repeat.is_(False))
        .order_by(Assignment.id)
    )
    if (session.scalar(select(func.count()).select_from(rated.subquery())) or 0) < REPEAT_AFTER:
        return None
    early = list(session.scalars(rated))[:-_FRESH]
    twice = {*session.scalars(asked_twice), *exclude}
    usable = [group for group in early if group.id not in twice]
    return usable[int(_lot(annotator_id, number, "again") * len(usable))] if usable else None


def _held(annotator_id: str, exclude: Collection[str]) -> Select[Assignment]:
    """Leases of the annotator, the first first; those that ran out are gone after `expire`."""
    mine = Assignment.annotator_id == annotator_id, Assignment.done_at.is_(None)
    query = select(Assignment).where(*mine, Assignment.group_id.not_in(exclude))
    return query.order_by(Assignment.id)


def expire(session: Session, now: datetime) -> None:
    """Takes back every lease that ran out."""
    late = update(Assignment).where(Assignment.done_at.is_(None), Assignment.lease_until < now)
    session.execute(late.values(done_at=now, outcome="expired"))


def _open(
    annotator_id: str, exclude: Collection[str], kinds: Collection[str] = OFFERED
) -> Select[ImageGroup]:
    """Finished groups that the annotator neither judged nor holds: those that a run waits for, then the
    least seen, then what no head has looked at yet, then those that would teach most, the newest first."""
    settled = select(Assignment.group_id).where(
        Assignment.annotator_id == annotator_id,
        or_(Assignment.outcome.in_(("rated", "skipped")), Assignment.done_at.is_(None)),
    )
    wanted = ImageGroup.state == "done", ImageGroup.kind.in_(kinds), ImageGroup.id.not_in(settled)
    query = select(ImageGroup).where(*wanted, ImageGroup.id.not_in(exclude))
    matters = case((ImageGroup.kind == "rollout", -1.0), else_=ImageGroup.priority)
    priority = matters.desc().nulls_first()
    return query.order_by(_waits(), _attention(), priority, ImageGroup.seq.desc())


def _waits() -> ColumnElement[int]:
    """0 where a run that has not ended waits for this very group, else 1."""
    over = select(Run.id).where(Run.state.in_(ENDED))
    is_asked = ImageGroup.kind == "rollout", ImageGroup.phase == WAITED_FOR
    return case((and_(*is_asked, ImageGroup.run_id.not_in(over)), 0), else_=1)


def _attention() -> ColumnElement[int]:
    """How many annotators judged the group or are at it."""
    counted = (
        or_(Assignment.outcome == "rated", Assignment.done_at.is_(None)),
        Assignment.is_repeat.is_(False),
    )
    return select(func.count()).where(Assignment.group_id == ImageGroup.id, *counted).scalar_subquery()


def open_count(session: Session, annotator_id: str) -> int:
    """Groups that the annotator may still rate, those on lease to them included."""
    judged = select(Assignment.group_id).where(
        Assignment.annotator_id == annotator_id, Assignment.outcome.in_(("rated", "skipped"))
    )
    wanted = ImageGroup.state == "done", ImageGroup.kind.in_(OFFERED), ImageGroup.id.not_in(judged)
    return session.scalar(select(func.count()).select_from(ImageGroup).where(*wanted)) or 0


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


def finish(session: Session, group_id: str, annotator_id: str, outcome: Outcome, is_repeat: bool) -> None:
    """The annotator is done with the group, whether or not the lease still ran."""
    latest = _latest(session, group_id, annotator_id, is_repeat)
    if latest is None or latest.outcome == "expired":
        latest = Assignment(group_id=group_id, annotator_id=annotator_id, lease_until=utc_now())
        latest.is_repeat = is_repeat
        session.add(latest)
    latest.outcome, latest.done_at = outcome, latest.done_at or utc_now()
    session.flush()


def reopen(session: Session, group_id: str, annotator_id: str, lease_seconds: int, is_repeat: bool) -> None:
    """After an undo that left nothing standing: the group is on lease to the annotator again."""
    latest = _latest(session, group_id, annotator_id, is_repeat)
    if latest is None or latest.outcome not in ("rated", "skipped"):
        return
    other = _latest(session, group_id, annotator_id, not is_repeat)
    if other is not None and other.done_at is None:
        # On lease as a repeat of the vote that is gone now: that lease is the vote's own from here on.
        latest.outcome, other.is_repeat = "expired", is_repeat
        return
    latest.outcome, latest.done_at = None, None
    latest.lease_until = utc_now() + timedelta(seconds=lease_seconds)


def _latest(session: Session, group_id: str, annotator_id: str, is_repeat: bool) -> Assignment | None:
    mine = Assignment.group_id == group_id, Assignment.annotator_id == annotator_id
    query = select(Assignment).where(*mine, Assignment.is_repeat.is_(is_repeat))
    return session.scalar(query.order_by(Assignment.done_at.is_not(None), Assignment.done_at.desc()).limit(1))

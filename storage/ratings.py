"""What people say about images: kept for ever, once per click, and nothing is "saved" before COMMIT returned.

Every rating carries a key that the browser made for the click. A retry, a double click or a second tab with
the same key changes nothing and gets the same answer, so a client may repeat a call until it hears back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from storage import assignments
from storage.engine import Database
from storage.groups import GroupView, views
from storage.lookup import next_number, required
from storage.models import Assignment, Image, ImageGroup, Outcome, RatingEvent, User
from storage.rating_kinds import (
    REPEAT,
    check_key,
    check_shape,
    images_of,
    is_repeat,
    replaces,
    said_in,
)
from storage.rating_kinds import RatingInput as RatingInput
from storage.ratings_current import RatingsView, current, not_undone, view_of
from storage.types import canonical_json, new_id, utc_now

LEASE_SECONDS = 600


@dataclass(frozen=True)
class Progress:
    """How far an annotator is, in groups."""

    rated: int
    skipped: int
    open: int
    """Groups that `next_task` would still offer."""
    rated_today: int
    """Since midnight UTC."""


def rate(db: Database, rating: RatingInput) -> RatingEvent:
    """Keeps one rating; again with the same key returns the one that was kept.

    Raises:
        ValueError: a kind, value or image that does not fit, a group that is not done, or a key used before.
        LookupError: unknown annotator, group or image.
        NotSavedError: nothing was kept; call again with the same key.
    """
    check_shape(rating)
    with db.write() as session:
        again = assignments.is_asked_again(session, rating.group_id, rating.annotator_id)
        event, is_new = _keep(session, rating, new_id(), again)
        if is_new:
            outcome: Outcome = "skipped" if rating.kind == "skip" else "rated"
            assignments.touch(session, rating.group_id, rating.annotator_id, outcome, LEASE_SECONDS, again)
        return event


def submit(
    db: Database,
    annotator_id: str,
    group_id: str,
    ratings: Sequence[RatingInput],
    exclude: Collection[str] = (),
) -> GroupView | None:
    """Keeps all ratings of a group, ends its assignment and leases the next one, in one transaction.

    The ratings are one act: one undo takes all of them back. May be repeated like `rate`; `ratings` may be
    empty when the group was rated click by click.

    Returns:
        The next group, or None when there is nothing left to rate.
    """
    for rating in ratings:
        if (rating.annotator_id, rating.group_id) != (annotator_id, group_id):
            raise ValueError(
                "expected ratings of one annotator for one group, got others among them: reload the page"
            )
        check_shape(rating)
    act_id = new_id()
    with db.write() as session:
        again = assignments.is_asked_again(session, group_id, annotator_id)
        kept = [_keep(session, rating, act_id, again)[0] for rating in ratings]
        again = is_repeat(kept[-1]) if kept else again  # a repeated call is what it was the first time
        session.flush()
        said = view_of(_said(session, annotator_id, group_id, again))
        if said.says_nothing():
            raise ValueError("nothing was rated: give stars, choose the best image, or skip the group")
        assignments.finish(session, group_id, annotator_id, "skipped" if said.skipped else "rated", again)
        return _lease_next(session, annotator_id, LEASE_SECONDS, exclude)


def undo(db: Database, annotator_id: str, client_key: str) -> RatingEvent | None:
    """Takes back the annotator's last act that still stands, and opens its group for them again.

    Args:
        client_key: the key of the undo itself; a repeat returns the same event.

    Returns:
        The undo event, whose `group_id` says which group to show; None when there is nothing to take back.
    """
    check_key(client_key)
    with db.write() as session:
        required(session, User, annotator_id, "annotator")
        known = session.scalar(select(RatingEvent).where(RatingEvent.client_key == client_key))
        if known is not None:
            return _same_act(known, (annotator_id, "undo"), (known.annotator_id, known.kind))
        last = _last_act(session, annotator_id)
        if last is None:
            return None
        event = RatingEvent(
            client_key=client_key, annotator_id=annotator_id, group_id=last.group_id, kind="undo"
        )
        again = is_repeat(last)
        event.act_id, event.supersedes_id, event.payload = last.act_id, last.id, _marked({}, again)
        event.seq = next_number(session, RatingEvent.seq)
        session.add(event)
        session.flush()
        if view_of(_said(session, annotator_id, last.group_id, again)).says_nothing():
            assignments.reopen(session, last.group_id, annotator_id, LEASE_SECONDS, again)
        return event


def current_ratings(db: Database, group_id: str, annotator_id: str | None = None) -> RatingsView:
    """What holds now: of one annotator, or the last word of anyone."""
    with db.read() as session:
        required(session, ImageGroup, group_id, "group")
        return current(session, [group_id], annotator_id)[group_id]


def next_task(
    db: Database, annotator_id: str, lease_seconds: int = LEASE_SECONDS, exclude: Collection[str] = ()
) -> GroupView | None:
    """The group to rate now, on lease; None when all are done.

    First the one on lease already, then groups that a run waits for, then the least rated; among these the
    one whose rating would teach most, or one in seven times any, or where nothing is known the newest. Now
    and then a group comes a second time (`assignments.REPEAT_EVERY`): what is said then is no vote.
    """
    with db.write() as session:
        required(session, User, annotator_id, "annotator")
        return _lease_next(session, annotator_id, lease_seconds, exclude)


def lease_group(db: Database, annotator_id: str, group_id: str) -> GroupView | None:
    """This very group, to rate now; None when it cannot be rated or the annotator judged it already."""
    with db.write() as session:
        required(session, User, annotator_id, "annotator")
        required(session, ImageGroup, group_id, "group")
        group = assignments.lease_this(session, annotator_id, group_id, timedelta(seconds=LEASE_SECONDS))
        return None if group is None else views(session, [group], annotator_id)[0]


def upcoming(
    db: Database, annotator_id: str, exclude: Collection[str] = (), limit: int = 1
) -> list[GroupView]:
    """What `next_task` would offer next, without a lease: for fetching the images ahead of time."""
    with db.read() as session:
        required(session, User, annotator_id, "annotator")
        return views(session, assignments.upcoming(session, annotator_id, exclude, limit), annotator_id)


def progress(db: Database, annotator_id: str) -> Progress:
    """How many groups this annotator rated, skipped and has left."""
    midnight = datetime.combine(utc_now().date(), time(), UTC)
    mine = and_(Assignment.annotator_id == annotator_id, Assignment.is_repeat.is_(False))
    with db.read() as session:
        required(session, User, annotator_id, "annotator")
        count = func.count(Assignment.group_id.distinct())
        return Progress(
            rated=session.scalar(select(count).where(mine, Assignment.outcome == "rated")) or 0,
            skipped=session.scalar(select(count).where(mine, Assignment.outcome == "skipped")) or 0,
            open=assignments.open_count(session, annotator_id),
            rated_today=session.scalar(
                select(count).where(mine, Assignment.outcome == "rated", Assignment.done_at >= midnight)
            )
            or 0,
        )


def _lease_next(
    session: Session, annotator_id: str, lease_seconds: int, exclude: Collection[str]
) -> GroupView | None:
    group = assignments.lease(session, annotator_id, timedelta(seconds=lease_seconds), exclude)
    return None if group is None else views(session, [group], annotator_id)[0]


def _said(session: Session, annotator_id: str, group_id: str, again: bool) -> list[RatingEvent]:
    """What the annotator said about the group and did not take back, in order.

    Args:
        again: when asked a second time, rather than as votes.
    """
    mine = RatingEvent.annotator_id == annotator_id, RatingEvent.group_id == group_id
    events = list(session.scalars(select(RatingEvent).where(*mine).order_by(RatingEvent.seq)))
    return [event for event in not_undone(events) if is_repeat(event) == again]


def _last_act(session: Session, annotator_id: str) -> RatingEvent | None:
    """The annotator's last event that stands, of any group."""
    mine = RatingEvent.annotator_id == annotator_id
    undone = select(RatingEvent.act_id).where(mine, RatingEvent.kind == "undo")
    query = select(RatingEvent).where(mine, RatingEvent.act_id.not_in(undone))
    return session.scalar(query.order_by(RatingEvent.seq.desc()).limit(1))


def _keep(session: Session, rating: RatingInput, act_id: str, again: bool) -> tuple[RatingEvent, bool]:
    """The event and whether it is new. Reads and writes under one lock, so no key is used twice."""
    known = session.scalar(select(RatingEvent).where(RatingEvent.client_key == rating.client_key))
    if known is not None:
        return _same_act(known, _words(rating), _words(known)), False
    _check_rows(session, rating)
    earlier = [
        event
        for event in _said(session, rating.annotator_id, rating.group_id, again)
        if replaces(rating, event)
    ]
    if rating.kind == "flags" and not rating.payload["flags"] and not earlier:
        raise ValueError("no flags take back earlier ones, and there are none: name at least one flag")
    event = RatingEvent(act_id=act_id, **vars(rating))
    event.payload = _marked(rating.payload, again)
    event.supersedes_id = earlier[-1].id if earlier else None
    event.seq = next_number(session, RatingEvent.seq)
    session.add(event)
    session.flush()
    return event, True


def _marked(payload: Mapping[str, Any], again: bool) -> dict[str, Any]:
    return dict(payload) | ({REPEAT: True} if again else {})


def _words(act: RatingInput | RatingEvent) -> tuple[Any, ...]:
    """What makes an act this act and no other."""
    payload = canonical_json(said_in(act.payload))
    return act.annotator_id, act.group_id, act.kind, act.image_id, act.value, payload


def _same_act(known: RatingEvent, asked: tuple[Any, ...], kept: tuple[Any, ...]) -> RatingEvent:
    if asked != kept:
        raise ValueError(
            f"the key {known.client_key} was used for another act: make a new key for each click"
        )
    return known


def _check_rows(session: Session, rating: RatingInput) -> None:
    if not required(session, User, rating.annotator_id, "annotator").active:
        raise ValueError("this account is no longer active: ask an admin")
    group = required(session, ImageGroup, rating.group_id, "group")
    if group.state != "done":
        raise ValueError(f"the group is {group.state}: only finished groups can be rated")
    for image_id in images_of(rating):
        if required(session, Image, image_id, "image").group_id != group.id:
            raise ValueError("the image is not in this group: reload the page and rate again")

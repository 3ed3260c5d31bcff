"""What people say about images: kept for ever, once per click, and nothing is "saved" before COMMIT returned.

Every rating carries a key that the browser made for the click. A retry, a double click or a second tab with
the same key changes nothing and gets the same answer, so a client may repeat a call until it hears back.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, case, func, select
from sqlalchemy.orm import Session

from storage import assignments, offers
from storage.engine import Database
from storage.groups import GroupView, views
from storage.lookup import next_number, required
from storage.models import Assignment, Image, ImageGroup, Outcome, RatingEvent, User
from storage.models_studio import CheckItem
from storage.offers import Waiting
from storage.rating_kinds import (
    CHECK,
    REPEAT,
    Mark,
    check_key,
    check_shape,
    images_of,
    mark_of,
    marked,
    replaces,
    said_in,
)
from storage.rating_kinds import RatingInput as RatingInput
from storage.ratings_current import RatingsView, current, not_undone, view_of
from storage.types import UTCDateTime, canonical_json, new_id, utc_now

LEASE_SECONDS = 600
UNDO_BACK = 20
"""Acts: what lies further back stays."""
UNDO_WITHIN = timedelta(hours=12)
"""A sitting: what is older stays."""


@dataclass(frozen=True)
class Progress:
    """How far an annotator is, in groups."""

    rated: int
    skipped: int
    open: int
    """Groups that `next_task` would still offer."""
    rated_today: int
    """Since midnight UTC."""
    answered: int = field(default=0, compare=False)
    """Tasks that were answered ever, those among them that were no votes; practice is none."""


def rate(db: Database, rating: RatingInput) -> RatingEvent:
    """Keeps one rating; again with the same key returns the one that was kept.

    Raises:
        ValueError: a kind, value or image that does not fit, a group that is not done, or a key used before.
        LookupError: unknown annotator, group or image.
        NotSavedError: nothing was kept; call again with the same key.
    """
    check_shape(rating)
    with db.write() as session:
        mark = _mark(session, rating.group_id, rating.annotator_id)
        said = _said(session, rating.annotator_id, rating.group_id)
        event, is_new = _keep(session, rating, new_id(), mark, said)
        if is_new:
            outcome: Outcome = "skipped" if rating.kind == "skip" else "rated"
            whose = rating.group_id, rating.annotator_id
            assignments.touch(session, *whose, outcome, LEASE_SECONDS, mark == REPEAT)
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
        mark = _mark(session, group_id, annotator_id)
        said = _said(session, annotator_id, group_id)
        kept = [_keep(session, rating, act_id, mark, said)[0] for rating in ratings]
        mark = mark_of(kept[-1]) if kept else mark  # a repeated call is what it was the first time
        now = view_of([event for event in said if mark_of(event) == mark])
        if now.says_nothing():
            raise ValueError("nothing was rated: give stars, choose the best image, or skip the group")
        outcome: Outcome = "skipped" if now.skipped else "rated"
        assignments.finish(session, group_id, annotator_id, outcome, mark == REPEAT)
        return _lease_next(session, annotator_id, LEASE_SECONDS, exclude)


def undo(db: Database, annotator_id: str, client_key: str) -> RatingEvent | None:
    """Takes back the annotator's last act that still stands, and opens its group for them again.

    Of the last `UNDO_BACK` acts, and of one sitting: not what was said long ago.

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
        mark = mark_of(last)
        event.act_id, event.supersedes_id, event.payload = last.act_id, last.id, marked({}, mark)
        event.seq = next_number(session, RatingEvent.seq)
        session.add(event)
        session.flush()
        said = _said(session, annotator_id, last.group_id)
        if view_of([one for one in said if mark_of(one) == mark]).says_nothing():
            assignments.reopen(session, last.group_id, annotator_id, LEASE_SECONDS, mark == REPEAT)
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
    one whose rating would teach most, or one in seven times any, or where nothing is known the newest. A
    group that has its raters comes to nobody else (storage.rating_rules). Now and then a group comes a second
    time, or one whose answer is known: what is said then is no vote.
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


def images_ahead(db: Database, annotator_id: str, exclude: Collection[str], limit: int) -> list[str]:
    """Ids of the images of what most likely comes next: all that a browser needs to load them ahead. Repeats
    and groups with a known answer, which come now and then, are not foreseen.
    """
    with db.read() as session:
        groups = offers.likely(session, annotator_id, exclude, limit)
        of_group = [
            (groups.index(group), image) for image, group in session.execute(_IMAGES, {"groups": groups})
        ]
    return [image for _, image in sorted(of_group, key=lambda one: one[0])]


def progress(db: Database, annotator_id: str) -> Progress:
    """How many groups this annotator rated, skipped and has left."""
    said = {"annotator": annotator_id, "midnight": datetime.combine(utc_now().date(), time(), UTC)}
    with db.read() as session:
        required(session, User, annotator_id, "annotator")
        done, passed, today, ever = session.execute(_PROGRESS, said).one()
        return Progress(done, passed, offers.open_count(session, annotator_id), today, ever)


def waiting(db: Database, annotator_id: str) -> Waiting:
    """What other people hold and may give back to this annotator."""
    with db.read() as session:
        return offers.waiting(session, annotator_id, utc_now())


def stay(db: Database, annotator_id: str, group_id: str) -> None:
    """Somebody is still at a group that they have on lease: it is theirs for longer."""
    with db.write() as session:
        assignments.renew(session, annotator_id, group_id, timedelta(seconds=LEASE_SECONDS))


def _lease_next(
    session: Session, annotator_id: str, lease_seconds: int, exclude: Collection[str]
) -> GroupView | None:
    group = assignments.lease(session, annotator_id, timedelta(seconds=lease_seconds), exclude)
    return None if group is None else views(session, [group], annotator_id)[0]


def _mark(session: Session, group_id: str, annotator_id: str) -> Mark:
    """Why what the annotator says of the group now is no vote; empty where it is one."""
    if session.get(CheckItem, group_id) is not None:
        return CHECK
    return REPEAT if assignments.is_asked_again(session, group_id, annotator_id) else ""


def _said(session: Session, annotator_id: str, group_id: str) -> list[RatingEvent]:
    """What the annotator said about the group and did not take back, in order: votes, second answers, and
    those to a known question.
    """
    found = session.scalars(_MINE, {"annotator": annotator_id, "group": group_id})
    return not_undone(list(found))


def _last_act(session: Session, annotator_id: str) -> RatingEvent | None:
    """The annotator's last event that stands, of any group; None where it lies too far back."""
    mine = RatingEvent.annotator_id == annotator_id
    undone = select(RatingEvent.act_id).where(mine, RatingEvent.kind == "undo")
    query = select(RatingEvent).where(mine, RatingEvent.act_id.not_in(undone))
    last = session.scalar(query.order_by(RatingEvent.seq.desc()).limit(1))
    if last is None or last.created_at < utc_now() - UNDO_WITHIN:
        return None
    since = mine, RatingEvent.seq >= last.seq, RatingEvent.kind != "undo"
    back = session.scalar(select(func.count(RatingEvent.act_id.distinct())).where(*since)) or 0
    return last if back <= UNDO_BACK else None


def _keep(
    session: Session, rating: RatingInput, act_id: str, mark: Mark, said: list[RatingEvent]
) -> tuple[RatingEvent, bool]:
    """The event and whether it is new. Reads and writes under one lock, so no key is used twice.

    Args:
        said: what stands of the annotator in this group; a new event joins it.
    """
    known = session.scalar(_KNOWN, {"key": rating.client_key})
    if known is not None:
        return _same_act(known, _words(rating), _words(known)), False
    _check_rows(session, rating)
    earlier = [event for event in said if mark_of(event) == mark and replaces(rating, event)]
    if rating.kind == "flags" and not rating.payload["flags"] and not earlier:
        raise ValueError("no flags take back earlier ones, and there are none: name at least one flag")
    event = RatingEvent(act_id=act_id, **vars(rating))
    event.payload = marked(rating.payload, mark)
    event.supersedes_id = earlier[-1].id if earlier else None
    event.seq = next_number(session, RatingEvent.seq)
    session.add(event)
    session.flush()
    said.append(event)
    return event, True


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


def _counts() -> Select[int, int, int, int]:
    """Of one annotator: groups rated, skipped and rated since midnight, and tasks answered ever."""
    known = select(CheckItem.group_id)
    practice = known.where(CheckItem.is_practice)
    of_vote = and_(Assignment.is_repeat.is_(False), Assignment.group_id.not_in(known))
    rated, skipped = Assignment.outcome == "rated", Assignment.outcome == "skipped"
    today = Assignment.done_at >= bindparam("midnight", type_=UTCDateTime())

    def groups(*which: ColumnElement[bool]) -> ColumnElement[int]:
        return func.count(case((and_(*which), Assignment.group_id)).distinct())

    wanted = groups(of_vote, rated), groups(of_vote, skipped), groups(of_vote, rated, today)
    answered = func.count(case((and_(rated, Assignment.group_id.not_in(practice)), 1)))
    return select(*wanted, answered).where(Assignment.annotator_id == bindparam("annotator", ""))


# Every vote asks these: to put one together takes longer than to run it, so it is done once.
_PROGRESS = _counts()
_KNOWN = select(RatingEvent).where(RatingEvent.client_key == bindparam("key", ""))
_MINE = (
    select(RatingEvent)
    .where(
        RatingEvent.annotator_id == bindparam("annotator", ""),
        RatingEvent.group_id == bindparam("group", ""),
    )
    .order_by(RatingEvent.seq)
)
_IMAGES = (
    select(Image.id, Image.group_id)
    .where(Image.group_id.in_(bindparam("groups", [], expanding=True)))
    .order_by(Image.index)
)

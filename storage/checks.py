"""Groups whose answer is known: to practise on, or to see whether raters look (gold). They give no votes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage import assignments, audit
from storage.engine import Database
from storage.groups import GroupView, views
from storage.lookup import required
from storage.models import Assignment, Image, ImageGroup, RatingEvent
from storage.models_studio import CheckItem
from storage.rating_kinds import MAX_NOTE_LENGTH, Mark, is_check, is_vote, mark_of
from storage.ratings_current import RatingsView, not_undone, view_of
from storage.types import safe_text


class Passes(NamedTuple):
    """How many answers were right, or the same, of how many."""

    right: int
    answered: int


@dataclass(frozen=True)
class Check:
    """A check item with its group."""

    item: CheckItem
    view: GroupView


def add_check(
    db: Database,
    group_id: str,
    accepted: Collection[str],
    is_practice: bool = False,
    why: str = "",
    by: str = "local",
) -> CheckItem:
    """Makes a group a check item; one that is one already is changed. It is not offered to be rated any more.

    Args:
        accepted: ids of the images any of which is a right choice of the best; not all of the group.
        is_practice: to practise on, with the answer shown afterwards; else gold, which looks like any other.
        why: what is told after an answer to a practice item.

    Raises:
        LookupError: there is no such group.
        ValueError: a group that is not done, or images that cannot be the accepted ones.
    """
    if len(safe_text(why)) > MAX_NOTE_LENGTH:
        raise ValueError(f"the explanation has {len(why)} characters: shorten it to {MAX_NOTE_LENGTH}")
    with db.write() as session:
        group = required(session, ImageGroup, group_id, "group")
        if group.state != "done":
            raise ValueError(f"the group is {group.state}: only finished groups can be check items")
        chosen = _accepted(session, group_id, accepted)
        item = session.get(CheckItem, group_id)
        if item is None:
            item = CheckItem(group_id=group_id, created_by=by)
            session.add(item)
        item.accepted, item.is_practice, item.why = chosen, is_practice, why.strip()
        audit.note(session, by, "check.add", group_id, {"practice": is_practice, "accepted": chosen})
        session.flush()
        return item


def remove_check(db: Database, group_id: str, by: str = "local") -> None:
    """The group is one like any other again; what was said of it as a check stays no vote.

    Raises:
        LookupError: it is no check item.
    """
    with db.write() as session:
        session.delete(required(session, CheckItem, group_id, "check item"))
        events = session.scalars(select(RatingEvent).where(RatingEvent.group_id == group_id)).all()
        voters = {event.annotator_id for event in not_undone(events) if is_vote(event)}
        assignments.reopen_to_all(session, group_id, voters)
        audit.note(session, by, "check.remove", group_id)


def list_checks(db: Database, is_practice: bool | None = None) -> list[Check]:
    """The check items, the oldest first: all, or those to practise on (True), or gold (False)."""
    query = select(CheckItem).order_by(CheckItem.created_at, CheckItem.group_id)
    if is_practice is not None:
        query = query.where(CheckItem.is_practice.is_(is_practice))
    with db.read() as session:
        items = list(session.scalars(query))
        wanted = select(ImageGroup).where(ImageGroup.id.in_([item.group_id for item in items]))
        shown = {view.group.id: view for view in views(session, list(session.scalars(wanted)))}
    return [Check(item, shown[item.group_id]) for item in items]


def get_check(db: Database, group_id: str) -> CheckItem | None:
    """The check item of a group; None where it is none."""
    with db.read() as session:
        return session.get(CheckItem, group_id)


def to_practise(db: Database, annotator_id: str) -> list[str]:
    """Ids of the practice groups that the annotator has not answered, the oldest first."""
    said = select(RatingEvent).where(RatingEvent.annotator_id == annotator_id).order_by(RatingEvent.seq)
    items = select(CheckItem.group_id).where(CheckItem.is_practice)
    with db.read() as session:
        wanted = list(session.scalars(items.order_by(CheckItem.created_at, CheckItem.group_id)))
        events = list(session.scalars(said.where(RatingEvent.group_id.in_(wanted)))) if wanted else []
    done = {event.group_id for event in not_undone(events) if is_check(event) and event.kind != "flags"}
    return [group_id for group_id in wanted if group_id not in done]


def said_of_check(db: Database, group_id: str, annotator_id: str) -> RatingsView:
    """What an annotator says of a group whose answer is known; empty for nothing."""
    query = select(RatingEvent).where(RatingEvent.group_id == group_id).order_by(RatingEvent.seq)
    with db.read() as session:
        said = _by_person(session.scalars(query.where(RatingEvent.annotator_id == annotator_id)), "check")
    return said.get((annotator_id, group_id), RatingsView())


def passes(db: Database) -> dict[str, Passes]:
    """Annotator id to how they did on gold; skips are no answers, and practice does not count.

    An answer is right when everything it puts first is accepted: the best, the winner of a pair, the first of
    a ranking, the images with the most stars. A tie is no choice, and wrong.
    """
    with db.read() as session:
        gold = select(CheckItem).where(CheckItem.is_practice.is_(False))
        items = {item.group_id: set(item.accepted) for item in session.scalars(gold)}
        of_gold = select(RatingEvent).where(RatingEvent.group_id.in_(items)).order_by(RatingEvent.seq)
        said = _by_person(session.scalars(of_gold), "check")
    found: dict[str, list[bool]] = defaultdict(list)
    for (who, group_id), view in said.items():
        if not view.skipped and has_answer(view):
            found[who].append(is_right(view, items[group_id]))
    return {who: Passes(sum(right), len(right)) for who, right in found.items()}


def repeat_consistency(db: Database) -> dict[str, Passes]:
    """Annotator id to how many of the groups that were asked twice they answered the same way.

    Groups whose two answers cannot be compared, since they were given in two modes, do not count.
    """
    with db.read() as session:
        query = select(Assignment.group_id).where(Assignment.is_repeat).distinct()
        of_twice = select(RatingEvent).where(RatingEvent.group_id.in_(query)).order_by(RatingEvent.seq)
        events = list(session.scalars(of_twice))
    first, again = _by_person(events, ""), _by_person(events, "repeat")
    found: dict[str, list[bool]] = defaultdict(list)
    for key, view in again.items():
        same = says_the_same(first[key], view) if key in first else None
        if same is not None:
            found[key[0]].append(same)
    return {who: Passes(sum(same), len(same)) for who, same in found.items()}


def chosen(said: RatingsView) -> set[str]:
    """What somebody puts first: the best, the winners of pairs, the first of a ranking, the most stars."""
    if said.best is not None:
        return {said.best}
    if said.pairs:
        return {
            pair[outcome == "right"] for pair, outcome in said.pairs.items() if outcome in ("left", "right")
        }
    if said.order:
        return set() if said.none_good else set(said.order[0])
    most = max(said.stars.values(), default=0)
    return {image for image, stars in said.stars.items() if stars == most}


def has_answer(said: RatingsView) -> bool:
    """Whether somebody compared the images, rather than flagged or skipped them."""
    return bool(said.best or said.pairs or said.order or said.stars)


def is_right(said: RatingsView, accepted: Collection[str]) -> bool:
    """Whether all that it puts first is accepted."""
    first = chosen(said)
    return bool(first) and first <= set(accepted)


def says_the_same(one: RatingsView, other: RatingsView) -> bool | None:
    """Whether two answers to one question agree; None where they were given in modes that do not meet."""
    if one.best and other.best:
        return one.best == other.best
    pairs = _outcomes(one).keys() & _outcomes(other).keys()
    if pairs:
        return all(_outcomes(one)[pair] == _outcomes(other)[pair] for pair in pairs)
    if (one.best or one.order or one.stars) and (other.best or other.order or other.stars):
        return bool(chosen(one) & chosen(other)) or chosen(one) == chosen(other)
    return None


def _outcomes(said: RatingsView) -> dict[frozenset[str], str]:
    """Of each two images the one that won, or how they tied."""
    return {
        frozenset(pair): pair[outcome == "right"] if outcome in ("left", "right") else outcome
        for pair, outcome in said.pairs.items()
    }


def _by_person(events: Iterable[RatingEvent], mark: Mark) -> dict[tuple[str, str], RatingsView]:
    """(annotator, group) to what holds of that kind of answer."""
    found: dict[tuple[str, str], list[RatingEvent]] = defaultdict(list)
    for event in not_undone(list(events)):
        if mark_of(event) == mark:
            found[event.annotator_id, event.group_id].append(event)
    return {key: view_of(said) for key, said in found.items()}


def _accepted(session: Session, group_id: str, accepted: Collection[str]) -> list[str]:
    """The accepted images in the order in which they are shown."""
    images = list(session.scalars(select(Image.id).where(Image.group_id == group_id).order_by(Image.index)))
    if strange := set(accepted) - set(images):
        raise ValueError(f"the image {min(strange)} is not in this group: choose among its own images")
    if not accepted or len(set(accepted)) == len(images):
        raise ValueError(
            f"expected at least one and not all of the {len(images)} images to be accepted, "
            f"got {len(set(accepted))}: an answer must be able to be wrong"
        )
    return [image for image in images if image in set(accepted)]

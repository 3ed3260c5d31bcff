"""Which group an annotator is asked about next. Steps inside the transactions of storage.ratings."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    ScalarSelect,
    Select,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
)
from sqlalchemy.orm import Session

from storage.models import Assignment, ImageGroup, Run
from storage.models_studio import CheckItem
from storage.rating_rules import Rules, raters_wanted, rules_in, rules_said
from storage.runs import ENDED

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
REPEAT_AFTER = 20
"""Groups that an annotator has rated before any comes again."""
_FRESH = 10
"""Groups of the annotator's that are too recent to be asked again: they would be remembered."""


@dataclass(frozen=True)
class Turn:
    """One task of one annotator, before it is known which.

    Attributes:
        number: how many tasks they have had before.
        taken: ids of groups that it cannot be.
    """

    annotator_id: str
    number: int
    taken: Collection[str]


@dataclass(frozen=True)
class Waiting:
    """Groups that are with other people and may come back.

    Attributes:
        until: when the last of them is free again; None where there is none.
    """

    count: int
    until: datetime | None


def draw(session: Session, annotator_id: str, exclude: Collection[str]) -> tuple[ImageGroup, bool] | None:
    """The annotator's next task and whether they rated it before; None where nothing is left."""
    rules = rules_in(session)
    first = _first(session, annotator_id, exclude, rules, 1)
    best = session.get(ImageGroup, first[0]) if first else None
    if best is None:
        return None
    return _next(session, Turn(annotator_id, _drawn(session, annotator_id), exclude), best, rules)


def likely(session: Session, annotator_id: str, exclude: Collection[str], limit: int) -> list[str]:
    """Ids of the best open groups: what `draw` mostly gives."""
    return _first(session, annotator_id, exclude, rules_in(session), limit)


def _first(
    session: Session, annotator_id: str, exclude: Collection[str], rules: Rules, limit: int
) -> list[str]:
    """Ids of the first groups in the order of `open_to`, read from an index one step of attention after the
    other: however many groups there are, few are looked at."""
    said: dict[str, Any] = {"annotator": annotator_id, "taken": list(exclude)} | rules_said(rules)
    found = list(session.scalars(_ASKED, said | {"limit": limit}))
    step = session.scalar(_STEP, {"above": -1})
    while len(found) < limit and step is not None:
        rest = {"taken": [*exclude, *found], "limit": limit - len(found), "attention": step}
        found += session.scalars(_AT_STEP, said | rest)
        step = session.scalar(_STEP, {"above": step})
    return found


def open_to(
    annotator_id: str, exclude: Collection[str], rules: Rules | None, kinds: Collection[str] = OFFERED
) -> Select[ImageGroup]:
    """Finished groups that the annotator neither judged nor holds: those that a run waits for, then the
    least seen, then what no head has looked at yet, then those that would teach most, the newest first.

    Args:
        rules: leaves out those that have their raters and those whose answer is known; None leaves them in.
    """
    taken: BindParameter[str] = bindparam("taken", list(exclude), expanding=True)
    query = select(ImageGroup).where(*_unjudged(annotator_id, kinds), ImageGroup.id.not_in(taken))
    if rules is not None:
        query = query.where(_is_vote(), ImageGroup.attention < raters_wanted(rules))
    return query.order_by(_waits(), ImageGroup.attention, ImageGroup.worth.desc(), ImageGroup.seq.desc())


def open_count(session: Session, annotator_id: str) -> int:
    """Groups that the annotator may still rate, those on lease to them included."""
    said = {"annotator": annotator_id} | rules_said(rules_in(session))
    return session.scalar(_OPEN_COUNT, said) or 0


def waiting(session: Session, annotator_id: str, now: datetime) -> Waiting:
    """What would be open to the annotator if others gave back what they hold."""
    held = and_(Assignment.done_at.is_(None), Assignment.lease_until >= now)
    wanted = raters_wanted(rules_in(session))
    groups = select(ImageGroup.id).where(*_unjudged(annotator_id, OFFERED), _is_vote())
    groups = groups.where(num_raters() < wanted, ImageGroup.attention >= wanted)
    ids = list(session.scalars(groups))
    until = session.scalar(select(func.max(Assignment.lease_until)).where(held, Assignment.group_id.in_(ids)))
    return Waiting(len(ids), until)


def lot(annotator_id: str, number: int | str, what: str) -> float:
    """A number in [0, 1) that follows from its arguments: a draw can be foreseen, and tested."""
    digest = hashlib.sha256(f"{annotator_id}/{number}/{what}".encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48


def attention() -> ScalarSelect[int]:
    """How many annotators judged the group or are at it: what `ImageGroup.attention` keeps."""
    return _count(or_(Assignment.outcome == "rated", Assignment.done_at.is_(None)))


def num_raters() -> ScalarSelect[int]:
    """How many annotators judged the group."""
    return _count(Assignment.outcome == "rated")


def _count(which: ColumnElement[bool]) -> ScalarSelect[int]:
    """Of the group's assignments that are votes."""
    of_group = Assignment.group_id == ImageGroup.id, Assignment.is_repeat.is_(False)
    return select(func.count()).where(*of_group, which).correlate(ImageGroup).scalar_subquery()


def _drawn(session: Session, annotator_id: str) -> int:
    """How many tasks the annotator has had."""
    return session.scalar(_DRAWN, {"annotator": annotator_id}) or 0


def _next(session: Session, turn: Turn, best: ImageGroup, rules: Rules) -> tuple[ImageGroup, bool]:
    """The task of a turn and whether the annotator rated it before; `best` where nothing else is due."""
    if best.kind == "rollout":  # a run waits
        return best, False
    again = _repeat(session, turn, rules)
    if again is not None:
        return again, True
    other = _gold(session, turn, rules) or _started(session, turn, rules)
    if other is not None:
        return other, False
    if best.priority is None or lot(turn.annotator_id, turn.number, "random") >= RANDOM_SHARE:
        return best, False
    return _any_like(session, turn, best, rules), False


def _any_like(session: Session, turn: Turn, best: ImageGroup, rules: Rules) -> ImageGroup:
    """Any open group that was seen as seldom as the best one, whatever its priority."""
    peers = open_to(turn.annotator_id, turn.taken, rules).where(ImageGroup.attention == best.attention)
    count = session.scalar(select(func.count()).select_from(peers.order_by(None).subquery())) or 1
    place = int(lot(turn.annotator_id, turn.number, "which") * count)
    return session.scalar(peers.order_by(None).order_by(ImageGroup.seq).offset(place).limit(1)) or best


def _repeat(session: Session, turn: Turn, rules: Rules) -> ImageGroup | None:
    """A group that the annotator rated before and was not asked about twice; None when it is not time."""
    if not rules.repeat_share or (turn.number + 1) % round(1 / rules.repeat_share):
        return None
    mine = Assignment.annotator_id == turn.annotator_id
    asked_twice = select(Assignment.group_id).where(mine, Assignment.is_repeat)
    rated = (
        select(ImageGroup)
        .join(Assignment, Assignment.group_id == ImageGroup.id)
        .where(mine, Assignment.outcome == "rated", Assignment.is_repeat.is_(False), _is_vote())
        .order_by(Assignment.id)
    )
    if (session.scalar(select(func.count()).select_from(rated.subquery())) or 0) < REPEAT_AFTER:
        return None
    early = list(session.scalars(rated))[:-_FRESH]
    twice = {*session.scalars(asked_twice), *turn.taken}
    return _by_lot([group for group in early if group.id not in twice], turn, "again")


def _gold(session: Session, turn: Turn, rules: Rules) -> ImageGroup | None:
    """A group with a known answer that the annotator has not seen; None when it is not time."""
    if lot(turn.annotator_id, turn.number, "gold") >= rules.gold_share:
        return None
    gold = select(CheckItem.group_id).where(CheckItem.is_practice.is_(False))
    query = open_to(turn.annotator_id, turn.taken, None, RATEABLE).where(ImageGroup.id.in_(gold))
    return _by_lot(list(session.scalars(query.order_by(None).order_by(ImageGroup.seq))), turn, "which gold")


def _started(session: Session, turn: Turn, rules: Rules) -> ImageGroup | None:
    """Now and then, a group that somebody else judged and that wants more people: else new ones would always
    come before it.
    """
    if rules.raters == 1 or lot(turn.annotator_id, turn.number, "overlap") >= rules.share:
        return None
    begun = ImageGroup.attention > 0, ImageGroup.attention == num_raters()
    query = open_to(turn.annotator_id, turn.taken, rules).where(*begun)
    return session.scalar(query.limit(1))


def _by_lot(groups: list[ImageGroup], turn: Turn, what: str) -> ImageGroup | None:
    place = int(lot(turn.annotator_id, turn.number, what) * len(groups))
    return groups[place] if groups else None


def _unjudged(annotator_id: str, kinds: Collection[str]) -> tuple[ColumnElement[bool], ...]:
    settled = select(Assignment.group_id).where(
        Assignment.annotator_id == bindparam("annotator", annotator_id),
        or_(Assignment.outcome.in_(("rated", "skipped")), Assignment.done_at.is_(None)),
    )
    return ImageGroup.state == "done", ImageGroup.kind.in_(kinds), ImageGroup.id.not_in(settled)


def _is_vote() -> ColumnElement[bool]:
    """What would be said of the group would count: nobody knows its answer."""
    return ImageGroup.id.not_in(select(CheckItem.group_id))


def _waits() -> ColumnElement[int]:
    """0 where a run that has not ended waits for this very group, else 1."""
    over = select(Run.id).where(Run.state.in_(ENDED))
    is_asked = ImageGroup.kind == "rollout", ImageGroup.phase == WAITED_FOR
    return case((and_(*is_asked, ImageGroup.run_id.not_in(over)), 0), else_=1)


def _count_of_open() -> Select[int]:
    """What `open_count` asks."""
    annotator: BindParameter[str] = bindparam("annotator", "")
    judged = select(Assignment.group_id).where(
        Assignment.annotator_id == annotator, Assignment.outcome.in_(("rated", "skipped"))
    )
    wanted = ImageGroup.state == "done", ImageGroup.kind.in_(OFFERED), ImageGroup.id.not_in(judged)
    held = select(Assignment.group_id).where(
        Assignment.annotator_id == annotator, Assignment.done_at.is_(None), Assignment.is_repeat.is_(False)
    )
    others = ImageGroup.attention - case((ImageGroup.id.in_(held), 1), else_=0)
    room = others < raters_wanted(Rules())
    return select(func.count()).select_from(ImageGroup).where(*wanted, _is_vote(), room)


# Every vote asks these: to put one together takes longer than to run it, so it is done once.
_OPEN = open_to("", (), Rules()).with_only_columns(ImageGroup.id).limit(bindparam("limit", 1))
_ASKED = _OPEN.where(_waits() == 0, ImageGroup.phase == WAITED_FOR)
_AT_STEP = (
    _OPEN.where(ImageGroup.attention == bindparam("attention", 0))
    .order_by(None)
    .order_by(ImageGroup.worth.desc(), ImageGroup.seq.desc())
)
_STEP = select(func.min(ImageGroup.attention)).where(
    ImageGroup.state == "done", ImageGroup.attention > bindparam("above", -1)
)
_OPEN_COUNT = _count_of_open()
_DRAWN = select(func.count()).where(Assignment.annotator_id == bindparam("annotator", ""))

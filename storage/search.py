"""Finds images and groups among many: newest first, a page at a time, by what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from storage.engine import Database
from storage.groups import GroupView, ImageView, views
from storage.models import Checkpoint, GroupKind, Image, ImageGroup, RatingEvent, Score
from storage.models_studio import BoardImage
from storage.rating_kinds import REPEAT, Flag
from storage.ratings_current import current

IMAGES_PER_PAGE = 60
GROUPS_PER_PAGE = 24
COUNTED = 1_000
"""Up to here matches are counted; beyond it "more than" is enough."""
Rated = Literal["rated", "best", "unrated"]
_FEW = 4_000
"""So many candidates are gathered first; with more of them a page is full soon anyway."""


@dataclass(frozen=True)
class Filters:
    """What a match must be; a filter that is not given lets everything through.

    Attributes:
        words: the prompt holds each of these words, in any case.
        reward: with `low` or `high`, the range of its newest value; alone, that it has a value.
        rated: "rated": somebody judged its group; "best": somebody chose it; "unrated": nobody said anything.
        stars: somebody gave it at least so many.
        flag: somebody flagged it, or its whole group, with this.
        since, until: asked for at or after, and before.
        kinds: of groups; empty for all.
    """

    words: str = ""
    checkpoint_id: str | None = None
    reward: str | None = None
    low: float | None = None
    high: float | None = None
    rated: Rated | None = None
    stars: int | None = None
    flag: Flag | None = None
    since: datetime | None = None
    until: datetime | None = None
    board_id: str | None = None
    kinds: tuple[GroupKind, ...] = ()


@dataclass(frozen=True)
class FoundImage:
    """An image with the group and the checkpoint that it is of."""

    view: ImageView
    group: ImageGroup
    checkpoint: Checkpoint


@dataclass(frozen=True)
class ImagePage:
    """Some images, newest first; `next` is the `before` of the page after this one, None on the last."""

    images: list[FoundImage]
    next: str | None


@dataclass(frozen=True)
class GroupPage:
    """Some groups, newest first; `next` is the `before` of the page after this one, None on the last."""

    groups: list[GroupView]
    next: int | None


def search_images(
    db: Database, filters: Filters, before: str | None = None, limit: int = IMAGES_PER_PAGE
) -> ImagePage:
    """A page of the images that match, newest first.

    Args:
        before: only images older than this one, by its id.
    """
    with db.read() as session:
        query = image_query(session, filters)
        if before is not None:
            query = query.where(Image.id < before)
        rows = list(session.scalars(query.order_by(Image.id.desc()).limit(limit + 1)))
        return ImagePage(_found(session, rows[:limit]), rows[limit - 1].id if len(rows) > limit else None)


def search_groups(
    db: Database, filters: Filters, before: int | None = None, limit: int = GROUPS_PER_PAGE
) -> GroupPage:
    """A page of the groups that match, or of which one image does, newest first.

    Args:
        before: only groups older than this one, by its `seq`.
    """
    with db.read() as session:
        query = group_query(session, filters)
        if before is not None:
            query = query.where(ImageGroup.seq < before)
        rows = list(session.scalars(query.order_by(ImageGroup.seq.desc()).limit(limit + 1)))
        return GroupPage(views(session, rows[:limit]), rows[limit - 1].seq if len(rows) > limit else None)


def count_images(db: Database, filters: Filters) -> int:
    """How many images match; never more than COUNTED + 1, which stands for "more"."""
    with db.read() as session:
        found = image_query(session, filters).with_only_columns(Image.id).limit(COUNTED + 1)
        return session.scalar(select(func.count()).select_from(found.subquery())) or 0


def count_groups(db: Database, filters: Filters) -> int:
    """How many groups match; never more than COUNTED + 1, which stands for "more"."""
    with db.read() as session:
        found = group_query(session, filters).with_only_columns(ImageGroup.id).limit(COUNTED + 1)
        return session.scalar(select(func.count()).select_from(found.subquery())) or 0


def count_words(count: int) -> str:
    """ "17", or "1,000+" for more than were counted."""
    return f"{COUNTED:,}+" if count > COUNTED else f"{count:,}"


def image_query(session: Session, filters: Filters) -> Select[Image]:
    """The images that match, in no order. Few candidates are gathered by their index; of many, each image of
    a walk from the newest is looked at, which ends as soon as the page is full."""
    query = select(Image).where(*_of_image(session, filters))
    of_group = _of_group(filters)
    if not of_group:
        return query
    matching = select(ImageGroup.id).where(*of_group)
    if _is_few(session, matching):
        return query.where(Image.group_id.in_(matching))
    return query.where(exists().where(ImageGroup.id == Image.group_id, *of_group))


def group_query(session: Session, filters: Filters) -> Select[ImageGroup]:
    """The groups that match, in no order."""
    query = select(ImageGroup).where(*_of_group(filters))
    of_image = _of_image(session, filters)
    if not of_image:
        return query
    matching = select(Image.group_id).where(*of_image)
    if _is_few(session, matching):
        return query.where(ImageGroup.id.in_(matching))
    return query.where(exists().where(Image.group_id == ImageGroup.id, *of_image))


def _is_few(session: Session, candidates: Select[Any]) -> bool:
    some = candidates.limit(_FEW + 1).subquery()
    return (session.scalar(select(func.count()).select_from(some)) or 0) <= _FEW


def _of_group(filters: Filters) -> list[ColumnElement[bool]]:
    """What holds of a whole group."""
    found: list[ColumnElement[bool]] = [_holds(word) for word in filters.words.split()]
    if filters.checkpoint_id:
        found.append(ImageGroup.checkpoint_id == filters.checkpoint_id)
    if filters.kinds:
        found.append(ImageGroup.kind.in_(filters.kinds))
    if filters.since:
        found.append(ImageGroup.created_at >= filters.since)
    if filters.until:
        found.append(ImageGroup.created_at < filters.until)
    judged = exists().where(
        RatingEvent.group_id == ImageGroup.id, RatingEvent.kind.not_in(("skip", "undo")), _stands()
    )
    if filters.rated == "rated":
        found.append(judged)
    elif filters.rated == "unrated":
        found.append(~judged)
    return found


def _of_image(session: Session, filters: Filters) -> list[ColumnElement[bool]]:
    """What holds of one image."""
    found: list[ColumnElement[bool]] = []
    if filters.reward:
        found.append(_scored(session, filters))
    if filters.rated == "best":
        found.append(_said(session, RatingEvent.kind == "best"))
    if filters.stars is not None:
        found.append(_said(session, and_(RatingEvent.kind == "stars", RatingEvent.value >= filters.stars)))
    if filters.flag:
        found.append(_flagged(session, filters.flag))
    if filters.board_id:
        on_board = select(BoardImage.image_id).where(BoardImage.board_id == filters.board_id)
        found.append(Image.id.in_(on_board))
    return found


def _holds(word: str) -> ColumnElement[bool]:
    """LIKE knows only the case of ASCII, so other letters are asked for as they are usually written."""
    forms = {word} if word.isascii() else {word, word.lower(), word.upper(), word.capitalize()}
    return or_(*(ImageGroup.prompt.icontains(form, autoescape=True) for form in sorted(forms)))


def _scored(session: Session, filters: Filters) -> ColumnElement[bool]:
    newer = aliased(Score)
    is_newest = ~exists().where(
        newer.image_id == Score.image_id, newer.reward == Score.reward, newer.version > Score.version
    )
    candidates = select(Score.image_id).where(*_in_range(filters, Score.value))
    if _is_few(session, candidates):
        return Image.id.in_(candidates.where(is_newest))
    of_image = _in_range(filters, Score.value + 0)  # no index over values: SQLite is to come by the image
    return exists().where(Score.image_id == Image.id, *of_image, is_newest)


def _in_range(filters: Filters, value: Any) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [Score.reward == filters.reward, value.is_not(None)]
    if filters.low is not None:
        found.append(value >= filters.low)
    if filters.high is not None:
        found.append(value <= filters.high)
    return found


def _stands() -> ColumnElement[bool]:
    """A vote that was neither taken back nor replaced by a later one of the same person."""
    undo, later, its_undo = aliased(RatingEvent), aliased(RatingEvent), aliased(RatingEvent)
    undone = exists().where(undo.act_id == RatingEvent.act_id, undo.kind == "undo")
    later_undone = exists().where(its_undo.act_id == later.act_id, its_undo.kind == "undo")
    replaced = exists().where(
        later.group_id == RatingEvent.group_id,
        later.supersedes_id == RatingEvent.id,
        later.kind != "undo",
        ~later_undone,
    )
    is_vote = _payload(REPEAT).is_(None)
    takes_back = and_(RatingEvent.kind == "flags", _payload("flags") == "[]")
    return and_(is_vote, ~takes_back, ~undone, ~replaced)


def _said(session: Session, what: ColumnElement[bool]) -> ColumnElement[bool]:
    """Somebody said this about the image, and it stands."""
    candidates = select(RatingEvent.image_id).where(what)
    if _is_few(session, candidates):
        return Image.id.in_(candidates.where(_stands()))
    return exists().where(RatingEvent.image_id == Image.id, what, _stands())


def _flagged(session: Session, flag: Flag) -> ColumnElement[bool]:
    flagged = and_(RatingEvent.kind == "flags", _payload("flags").contains(f'"{flag}"', autoescape=True))
    whole = select(RatingEvent.group_id).where(flagged, RatingEvent.image_id.is_(None), _stands())
    return or_(_said(session, flagged), Image.group_id.in_(whole))


def _payload(key: str) -> ColumnElement[str]:
    text: ColumnElement[str] = RatingEvent.payload[key].as_string()
    return text


def _found(session: Session, rows: Sequence[Image]) -> list[FoundImage]:
    """Images with what is known of them: one query for each kind of row, however many images."""
    ids = [row.id for row in rows]
    group_ids = list({row.group_id for row in rows})
    groups = _by_id(session.scalars(select(ImageGroup).where(ImageGroup.id.in_(group_ids))))
    used = {group.checkpoint_id for group in groups.values()}
    checkpoints = _by_id(session.scalars(select(Checkpoint).where(Checkpoint.id.in_(used))))
    scores: dict[str, dict[str, Score]] = {}
    for score in session.scalars(select(Score).where(Score.image_id.in_(ids)).order_by(Score.version)):
        scores.setdefault(score.image_id, {})[score.reward] = score
    ratings = current(session, group_ids, None)
    found = []
    for row in rows:
        said, group = ratings[row.group_id], groups[row.group_id]
        view = ImageView(row, scores.get(row.id, {}), said.stars.get(row.id), said.best == row.id)
        found.append(FoundImage(view, group, checkpoints[group.checkpoint_id]))
    return found


def _by_id(rows: Any) -> dict[str, Any]:
    return {row.id: row for row in rows}

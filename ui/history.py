"""Earlier groups, searched: what was asked for stands in the address, and its words become filters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, get_args

from sqlalchemy import func, select

from storage import boards, checkpoints, scores, search
from storage.engine import Database
from storage.groups import REUSABLE
from storage.models import Image, ImageGroup, RatingEvent, Score
from storage.rating_kinds import Flag
from storage.search import Filters
from ui.components import render, strip
from ui.forms import Refused, real, whole
from ui.media import thumb_url

PER_PAGE = 12
FIELDS = ("q", "by", "reward", "min", "max", "rating", "flag", "from", "to", "board", "before")
"""Their names in the address and in the search's form."""
RATINGS = ("rated", "best", "unrated", "stars1", "stars2", "stars3", "stars4", "stars5")


@dataclass(frozen=True)
class Sought:
    """What one browser searches, as it was typed."""

    fields: Mapping[str, str] = field(default_factory=dict)

    def is_narrow(self) -> bool:
        """Whether anything but the page was chosen."""
        return any(self.fields.get(name) for name in FIELDS if name != "before")


def sought(values: Mapping[str, Any]) -> Sought:
    """Takes what is known of an address or a form; the rest is left alone."""
    found = {name: str(values.get(name) or "").strip()[:500] for name in FIELDS}
    return Sought({name: value for name, value in found.items() if value})


def filters_of(asked: Sought) -> Filters:
    """Reads the fields; raises `Refused` with the first that cannot be read."""
    get = asked.fields.get
    rating, flag = get("rating", ""), get("flag")
    if rating and rating not in RATINGS:
        raise Refused(f"The rating must be one of {', '.join(RATINGS)}: choose one from the list.")
    if flag and flag not in get_args(Flag):
        raise Refused(f"The flag must be one of {', '.join(get_args(Flag))}: choose one from the list.")
    until = _day(get("to"), "The last day")
    return Filters(
        words=get("q", ""),
        checkpoint_id=get("by"),
        reward=get("reward"),
        low=_bound(get("min"), "The lowest value"),
        high=_bound(get("max"), "The highest value"),
        rated=rating if rating in ("rated", "best", "unrated") else None,  # type: ignore[arg-type]
        stars=int(rating[-1]) if rating.startswith("stars") else None,
        flag=flag,  # type: ignore[arg-type]
        since=_day(get("from"), "The first day"),
        until=until + timedelta(days=1) if until else None,
        board_id=get("board"),
        kinds=REUSABLE,
    )


def _bound(typed: str | None, what: str) -> float | None:
    return real(typed, what, -1e9, 1e9) if typed else None


def _day(typed: str | None, what: str) -> datetime | None:
    if not typed:
        return None
    try:
        return datetime.combine(date.fromisoformat(typed), time(), UTC)
    except ValueError as error:
        raise Refused(f"{what} must be written as 2026-05-31, not “{typed[:24]}”.") from error


def history_html(db: Database, asked: Sought, shown: tuple[str, ...]) -> str:
    """Renders a page of what was found; `shown` are the groups on the canvas.

    Raises:
        Refused: a field cannot be read.
    """
    filters = filters_of(asked)
    before = asked.fields.get("before")
    place = whole(before, "The place in the history", 1, 2**53) if before else None
    page = search.search_groups(db, filters, place, PER_PAGE)
    count = search.count_words(search.count_groups(db, filters)) if asked.is_narrow() else ""
    return render(
        "recent.html",
        groups=page.groups,
        shown=shown,
        next=page.next,
        is_later=place is not None,
        is_narrow=asked.is_narrow(),
        count=count,
        thumb_url=thumb_url,
    )


def search_html(db: Database, asked: Sought) -> str:
    """Renders the search's form, filled with what is sought."""
    return render(
        "search.html",
        asked=dict.fromkeys(FIELDS, "") | dict(asked.fields),
        is_open=any(name not in ("q", "before") for name in asked.fields),
        checkpoints=list(reversed(checkpoints.list_checkpoints(db))),
        rewards=rewards_known(db),
        ratings=RATINGS,
        flags=get_args(Flag),
        boards=boards.list_boards(db),
    )


def rewards_known(db: Database) -> list[str]:
    """Names of rewards that the engine has, and of those that scored something before."""
    newest = select(Image.id).order_by(Image.id.desc()).limit(200)
    with db.read() as session:
        used = session.scalars(select(Score.reward).where(Score.image_id.in_(newest)).distinct())
        known = {*used, *scores.reward_cards(db)}
    first = [name for name in strip.REWARD_ORDER if name in known]
    return first + sorted(known - set(first))


def stamp(db: Database) -> tuple[Any, ...]:
    """Changes whenever the history may have changed: a group, an image or a vote."""
    states = (select(func.count()).where(ImageGroup.state == state) for state in ("queued", "running"))
    newest = select(func.max(ImageGroup.seq)), select(func.max(Image.id)), select(func.max(RatingEvent.seq))
    with db.read() as session:
        return tuple(session.scalar(query) for query in (*newest, *states))

"""What tests of the Team page share: who sits at the desk, what it shows, and votes to look at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from storage import ratings, users
from storage.engine import Database
from storage.groups import GroupView
from storage.ratings import RatingInput
from ui.pages.team import shown_parts
from ui.team.common import Desk, Seen


def at(desk: Desk, user_id: str) -> Desk:
    """The same desk with somebody else at it."""
    return replace(desk, me=users.get_user(desk.services.db, user_id))


def body(desk: Desk, tab: str, **asked: Any) -> str:
    return shown_parts(desk, Seen(tab, **asked)).body


def form(desk: Desk, tab: str, **asked: Any) -> str:
    return shown_parts(desk, Seen(tab, **asked)).form


def choose(db: Database, view: GroupView, index: int = 0, who: str = "local") -> None:
    """One vote, of four seconds."""
    image = view.images[index].image.id
    key = f"{who[-8:]} {view.group.id}"
    ratings.rate(db, RatingInput(key, who, view.group.id, "best", image, lead_ms=4000))

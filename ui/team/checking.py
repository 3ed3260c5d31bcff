"""Groups with a known answer: to practise on, or to see whether people look. Made of rated groups here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from storage import checks
from storage.checks import Check
from storage.groups import GroupView
from storage.models import Image
from storage.rated import rated_groups
from storage.rating_kinds import MAX_NOTE_LENGTH
from ui.agreement import preferred
from ui.components import render
from ui.forms import Refused
from ui.language import t
from ui.media import thumb_url
from ui.team.common import Desk, Fields, address, check_admin

_OFFERED = 12
"""Rated groups, the newest, that may be made check items."""
_SHOWN = 24
"""Check items in the list, the newest."""
_THUMBS = 8
_CHANGE = "change practice and gold groups"


@dataclass(frozen=True)
class Row:
    """A group with the images that count as right."""

    group_id: str
    seq: int
    prompt: str
    images: list[tuple[Image, bool]]
    is_practice: bool = False


def values(desk: Desk) -> dict[str, Any]:
    """The check items and rated groups that could be ones, for team_checks.html."""
    known = checks.list_checks(desk.services.db)
    taken = {one.item.group_id for one in known}
    seen = rated_groups(desk.services.db, _OFFERED + len(taken))
    usable = [
        Row(one.group.id, one.group.seq, one.group.prompt, _marked(one, preferred(one)))
        for one in seen
        if one.group.id not in taken
    ]
    return {
        "gold": [_row(one) for one in known if not one.item.is_practice][-_SHOWN:],
        "practice": [_row(one) for one in known if one.item.is_practice][-_SHOWN:],
        "usable": usable[:_OFFERED],
        "is_admin": desk.is_admin,
        "thumb": thumb_url,
        "address": address,
    }


def form(desk: Desk, group_id: str) -> str:
    """Which images of a group are right; those that people chose are marked already."""
    view = desk.services.group(group_id)
    if view is None:
        return render("team_check_form.html", view=None)
    item = checks.get_check(desk.services.db, group_id)
    return render(
        "team_check_form.html",
        view=view,
        item=item,
        accepted=set(item.accepted) if item else _chosen(desk, group_id),
        thumb=thumb_url,
        max_why=MAX_NOTE_LENGTH,
    )


def make(desk: Desk, target: str, fields: Fields) -> str:
    """Makes a group a check item, or changes what it is."""
    check_admin(desk, _CHANGE)
    accepted = str(fields.get("accepted", "")).split()
    is_practice = fields.get("kind") == "practice"
    if not accepted:
        raise Refused("No image is marked as right: mark at least one, and leave at least one unmarked.")
    checks.add_check(desk.services.db, target, accepted, is_practice, str(fields.get("why", "")), desk.me.id)
    return t("team.made_practice" if is_practice else "team.made_gold")


def remove(desk: Desk, target: str, fields: Fields) -> str:
    """The group is offered to be rated like any other again."""
    check_admin(desk, _CHANGE)
    checks.remove_check(desk.services.db, target, desk.me.id)
    return t("team.check_removed")


def _chosen(desk: Desk, group_id: str) -> set[str]:
    """The images that people preferred."""
    for view in rated_groups(desk.services.db, 10 * _OFFERED):
        if view.group.id == group_id:
            return {view.images[index].image.id for index in preferred(view)}
    return set()


def _row(check: Check) -> Row:
    places = {
        index for index, one in enumerate(check.view.images) if one.image.id in set(check.item.accepted)
    }
    group = check.view.group
    return Row(group.id, group.seq, group.prompt, _marked(check.view, places), check.item.is_practice)


def _marked(view: GroupView, places: set[int]) -> list[tuple[Image, bool]]:
    """The images, those of these places as right; of many, the right ones first."""
    marked = [(one.image, index in places) for index, one in enumerate(view.images)]
    return sorted(marked, key=lambda one: not one[1])[:_THUMBS] if len(marked) > _THUMBS else marked


ACTS: dict[str, Any] = {"check": make, "uncheck": remove}

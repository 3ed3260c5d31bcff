"""What one browser looks at in the Studio, and how it is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from storage import checkpoints
from storage.groups import GroupView
from storage.models import Checkpoint
from ui.components import render, strip
from ui.services import Services

SHOWN = 24
"""Groups that stand on the canvas at once."""


@dataclass(frozen=True)
class Seen:
    """What one browser looks at: the groups, and the image that is open. Only its own clicks change it."""

    groups: tuple[str, ...] = ()
    picked: str | None = None


def start(services: Services, query: Mapping[str, str]) -> Seen:
    """What an address names: `group` (several, with commas) and `image`; else the newest group."""
    named = [one for one in query.get("group", "").split(",") if one][:SHOWN]
    views = services.groups(named) or services.recent()[:1]
    images = {image.image.id for view in views for image in view.images}
    picked = query.get("image")
    return Seen(tuple(view.group.id for view in views), picked if picked in images else None)


def looked(state: Seen, act: str, target: str) -> Seen:
    """What is looked at after a click that only looks."""
    if act == "open":
        return Seen((target,))
    return replace(state, picked=target if act == "pick" else None)


def canvas_html(services: Services, views: Sequence[GroupView], state: Seen) -> str:
    """Renders the groups, or what to do where there are none."""
    if not views:
        is_known = bool(services.choices())
        return render("no_group.html", has_model=is_known, has_starter=starter(services) is not None)
    if len(views) > 1:
        return strip.batch_html(views, picked=state.picked, hidden=len(state.groups) - len(views))
    view = views[0]
    place, left = services.position(view), services.seconds_left(view)
    return strip.strip_html(view, picked=state.picked, position=place, wait=left)


def starter(services: Services) -> Checkpoint | None:
    """The starter itself, where this studio has it."""
    bases = [one for one in checkpoints.list_checkpoints(services.db) if one.path is None]
    return next((one for one in bases if services.base_facts(one).is_starter), None)

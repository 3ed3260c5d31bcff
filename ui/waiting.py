"""What is still being drawn for a comparison: how much, where it stands, how long it takes, and cancel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from storage.groups import GroupView
from ui.components import strip
from ui.services import Services, evaluations

OPEN = ("queued", "running")


@dataclass(frozen=True)
class Work:
    """Groups that are queued or being drawn.

    Attributes:
        groups: how many.
        images: of them, those that are not there yet.
        words: where the first of them stands, with the time left for all; empty where there are none.
    """

    groups: int
    images: int
    words: str


def work_of(services: Services, views: Iterable[GroupView]) -> Work:
    """What is open among `views`; a group may be named more than once."""
    waiting = _open(views)
    if not waiting:
        return Work(0, 0, "")
    first = min(waiting, key=lambda view: (view.group.state != "running", view.group.seq))
    missing = sum(len(view.group.seeds) - len(view.images) for view in waiting)
    words = strip.state_line(first, services.position(first), _seconds_left(services, waiting))
    return Work(len(waiting), missing, words)


def cancel(services: Services, views: Iterable[GroupView]) -> int:
    """Cancels what comparisons asked for and is still open; images that are there stay. A group of the
    Studio that is shown here as well goes on. Returns how many."""
    asked = [view for view in _open(views) if view.group.kind == "compare"]
    return sum(services.cancel(view.group.id) for view in asked)


def _open(views: Iterable[GroupView]) -> list[GroupView]:
    return [view for view in {view.group.id: view for view in views}.values() if view.group.state in OPEN]


def _seconds_left(services: Services, waiting: Sequence[GroupView]) -> float | None:
    """From what finished groups took; None where nothing is known, or it takes longer than that."""
    each = services.seconds_per_evaluation()
    if each is None:
        return None
    now = services.now()
    started = [view.group.started_at for view in waiting if view.group.state == "running"]
    spent = sum((now - at).total_seconds() for at in started if at is not None)
    return max(0.0, each * sum(evaluations(view.group) for view in waiting) - spent) or None

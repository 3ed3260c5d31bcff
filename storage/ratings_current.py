"""From the append-only history of a group to what holds now."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from storage.models import RatingEvent
from storage.rating_kinds import is_vote, pair_key


@dataclass
class RatingsView:
    """What holds now in one group."""

    stars: dict[str, int] = field(default_factory=dict)
    """Image id to 1..5."""
    best: str | None = None
    """Image id."""
    worst: str | None = None
    """Image id, named beside the best."""
    skipped: bool = False
    """The last word was a skip."""
    pairs: dict[tuple[str, str], str] = field(default_factory=dict)
    """(left, right) image ids to left, right, tie or bad; two images stand here once."""
    order: list[list[str]] = field(default_factory=list)
    """Image ids, best first, those that tie together; empty when nothing was ranked."""
    none_good: bool = False
    """All in `order` tie because none is any good."""
    flags: dict[str | None, list[str]] = field(default_factory=dict)
    """Image id, or None for the whole group, to its flags."""
    notes: dict[str | None, str] = field(default_factory=dict)
    """What was written beside the flags, where something was."""

    def says_nothing(self) -> bool:
        """Nothing was said, or all of it was taken back."""
        return self == RatingsView()


def current(session: Session, group_ids: Collection[str], annotator_id: str | None) -> dict[str, RatingsView]:
    """Group id to its current ratings: of one annotator, or the last word of anyone."""
    query, said = (_OF_ALL, {}) if annotator_id is None else (_OF_ONE, {"annotator": annotator_id})
    views = {group_id: RatingsView() for group_id in group_ids}
    for event in standing(list(session.scalars(query, said | {"groups": list(group_ids)}))):
        _apply(views[event.group_id], event)
    return views


def view_of(events: Sequence[RatingEvent]) -> RatingsView:
    """What holds after these events of one group, none of which was taken back."""
    view = RatingsView()
    for event in events:
        _apply(view, event)
    return view


def standing(events: Sequence[RatingEvent]) -> list[RatingEvent]:
    """The votes that no undo took back, in order: the one place that says what counts.

    What was said when asked a second time is no vote, nor what was said of a group whose answer is known.
    """
    return [event for event in not_undone(events) if is_vote(event)]


def not_undone(events: Sequence[RatingEvent]) -> list[RatingEvent]:
    """The events that no undo took back, in order, those among them that are no votes."""
    undone = {event.act_id for event in events if event.kind == "undo"}
    return [event for event in events if event.act_id not in undone]


def _apply(view: RatingsView, event: RatingEvent) -> None:
    view.skipped = event.kind == "skip"
    if event.kind == "stars" and event.image_id is not None and event.value is not None:
        view.stars[event.image_id] = event.value
    elif event.kind == "best":
        view.best, view.worst = event.image_id, event.payload.get("worst")
    elif event.kind == "pair":
        _apply_pair(view, event)
    elif event.kind == "rank":
        view.order = [list(tied) for tied in event.payload["order"]]
        view.none_good = bool(event.payload.get("none_good"))
    elif event.kind == "flags":
        _apply_flags(view, event)


def _apply_pair(view: RatingsView, event: RatingEvent) -> None:
    said = event.payload
    for left, right in list(view.pairs):
        if {left, right} == pair_key(said):
            del view.pairs[left, right]
    view.pairs[said["left"], said["right"]] = said["outcome"]


def _apply_flags(view: RatingsView, event: RatingEvent) -> None:
    view.flags.pop(event.image_id, None)
    view.notes.pop(event.image_id, None)
    if event.payload["flags"]:
        view.flags[event.image_id] = list(event.payload["flags"])
    if event.payload.get("note"):
        view.notes[event.image_id] = event.payload["note"]


# Every vote asks these: to put one together takes longer than to run it, so it is done once.
_OF_ALL = (
    select(RatingEvent)
    .where(RatingEvent.group_id.in_(bindparam("groups", [], expanding=True)))
    .order_by(RatingEvent.seq)
)
_OF_ONE = _OF_ALL.where(RatingEvent.annotator_id == bindparam("annotator", ""))

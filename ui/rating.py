"""What the rating card does: the next group, its answer in one transaction, undo."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from storage import ratings
from storage.assignments import RATEABLE
from storage.engine import Database
from storage.groups import GroupView, get_group
from storage.models import RatingEvent, RatingKind
from storage.rating_kinds import is_repeat
from storage.ratings import Progress, RatingInput
from ui.components import render
from ui.forms import Refused

MAX_LEAD_MS = 24 * 3600 * 1000
_RATED = (
    "You rated this group before: what you save now replaces it, what you leave out stays, S changes nothing."
)
_SKIPPED = "You skipped this group before: rate it now, or leave it so with S."
_UNKNOWN = "The group of this address is not in this studio, so the next one is shown."
_NOT_OFFERED = (
    "Group {} is not offered: only finished groups of the Studio, of Compare and of runs that ask people are "
    "rated."
)


@dataclass(frozen=True)
class Answer:
    """One answer of the card, checked.

    Attributes:
        key: made by the browser for this card; a repeat with it counts once.
        group_id: the rated group.
        best: image id, or None.
        stars: image id to 1..5.
        lead_ms: milliseconds from showing the card to the answer, or None.
        pair: {"left", "right": image ids, "outcome": left, right, tie or bad}, or None.
        rank: image ids, best first, those that tie together; empty for no ranking.
        flags: image id, or None for the whole group, to {"flags": [...], "note": text}.
    """

    key: str
    group_id: str
    best: str | None
    stars: Mapping[str, int]
    lead_ms: int | None
    pair: Mapping[str, Any] | None = None
    rank: Sequence[Sequence[str]] = ()
    flags: Mapping[str | None, Mapping[str, Any]] = field(default_factory=dict)


def read_answer(
    group_id: object,
    key: object,
    best: object,
    stars: object,
    lead_ms: object,
    *,
    pair: object = None,
    rank: object = None,
    flags: object = None,
) -> Answer:
    """Checks what a browser or a client sent; raises `Refused`.

    What pair, rank and flags hold is checked where it is kept (storage.rating_kinds).
    """
    if not isinstance(group_id, str) or not isinstance(key, str) or not 8 <= len(key) <= 48:
        raise Refused("The answer names no group or has no key of 8 to 48 characters: reload the page.")
    if best is not None and not isinstance(best, str):
        raise Refused("The best image is named by its id: reload the page.")
    if not isinstance(stars, Mapping) or any(
        type(value) is not int or not 1 <= value <= 5 for value in stars.values()
    ):
        raise Refused("Stars are whole numbers from 1 to 5, by image id.")
    given = {str(image): value for image, value in stars.items()}
    judged = _read_pair(pair), _read_rank(rank), _read_flags(flags)
    return Answer(key, group_id, best or None, given, read_lead(lead_ms), *judged)


def read_lead(lead_ms: object) -> int | None:
    """Milliseconds from showing to answering; None where they cannot be."""
    return lead_ms if isinstance(lead_ms, int) and 0 <= lead_ms <= MAX_LEAD_MS else None


def _read_pair(pair: object) -> Mapping[str, Any] | None:
    if pair is not None and not isinstance(pair, Mapping):
        raise Refused('A pair is {"left": image id, "right": image id, "outcome": left, right, tie or bad}.')
    return dict(pair) if pair else None


def _read_rank(rank: object) -> list[list[str]]:
    """One id stands for a list of one."""
    if rank is not None and (isinstance(rank, str) or not isinstance(rank, Sequence)):
        raise Refused(
            "A ranking is a list of image ids, best first; ids that tie stand in a list of their own."
        )
    return [[tied] if isinstance(tied, str) else tied for tied in rank or ()]


def _read_flags(flags: object) -> dict[str | None, Mapping[str, Any]]:
    """A list stands for flags without a note, an empty image id for the whole group."""
    if flags is not None and not isinstance(flags, Mapping):
        raise Refused('Flags are listed by image id, or by "" for the whole group.')
    return {
        str(image) or None: dict(said) if isinstance(said, Mapping) else {"flags": said}
        for image, said in (flags or {}).items()
    }


def inputs_of(answer: Answer, annotator_id: str) -> list[RatingInput]:
    """The answer as rating events, each with a key that follows from the card's key."""

    def event(kind: RatingKind, suffix: str, image_id: str | None = None, **said: Any) -> RatingInput:
        return RatingInput(
            client_key=f"{answer.key}:{suffix}",
            annotator_id=annotator_id,
            group_id=answer.group_id,
            kind=kind,
            image_id=image_id,
            lead_ms=answer.lead_ms,
            **said,
        )

    order = sorted(answer.stars)
    events = [event("stars", f"s{order.index(image)}", image, value=answer.stars[image]) for image in order]
    if answer.best:
        events.append(event("best", "b", answer.best))
    if answer.pair:
        events.append(event("pair", "p", payload=answer.pair))
    if answer.rank:
        events.append(event("rank", "r", payload={"order": answer.rank}))
    for number, image in enumerate(sorted(answer.flags, key=lambda one: one or "")):
        events.append(event("flags", f"f{number}", image, payload=answer.flags[image]))
    return events


def submit(db: Database, annotator_id: str, answer: Answer) -> GroupView | None:
    """Keeps an answer and returns the next group, None when nothing is left.

    Raises:
        Refused: nothing was chosen.
        NotSavedError: the disk refused; nothing was kept.
    """
    events = inputs_of(answer, annotator_id)
    if not events:
        raise Refused("Nothing was rated: pick the best image or give stars, or skip the group.")
    return ratings.submit(db, annotator_id, answer.group_id, events)


def skip(db: Database, annotator_id: str, answer: Answer) -> GroupView | None:
    """Gives a group back unjudged and returns the next one."""
    event = RatingInput(
        client_key=f"{answer.key}:skip",
        annotator_id=annotator_id,
        group_id=answer.group_id,
        kind="skip",
        lead_ms=answer.lead_ms,
    )
    return ratings.submit(db, annotator_id, answer.group_id, [event])


@dataclass(frozen=True)
class Card:
    """What a card begins with.

    Attributes:
        view: the group; None when there is nothing to rate.
        best: image id that was chosen before, or None.
        stars: image id to the stars given before.
        notice: a sentence about why this group is shown; mostly empty.
        is_judged: whether the group was rated or skipped before, and that still stands.
    """

    view: GroupView | None
    best: str | None = None
    stars: Mapping[str, int] = field(default_factory=dict)
    notice: str = ""
    is_judged: bool = False


def undo(db: Database, annotator_id: str, key: str) -> Card | None:
    """Takes back the last answer and opens its group with what was chosen; None when there is none."""
    event = ratings.undo(db, annotator_id, f"{key[:48]}:undo")
    if event is None:
        return None
    with db.read() as session:
        act = session.scalars(select(RatingEvent).where(RatingEvent.act_id == event.act_id)).all()
    best = next((said.image_id for said in act if said.kind == "best"), None)
    stars = {
        said.image_id: said.value for said in act if said.kind == "stars" and said.image_id and said.value
    }
    stands = ratings.current_ratings(db, event.group_id, annotator_id)
    was_second = is_repeat(event)  # asked twice, and to be asked again just like the second time
    is_judged = not (
        was_second or stands.skipped or stands.says_nothing()
    )  # by the vote before the one taken back
    view = get_group(db, event.group_id, annotator_id)
    return Card(view, best, stars, _RATED if is_judged else "", is_judged=is_judged)


def card_html(
    card: Card,
    progress: Progress,
    *,
    turn: str,
    heard: int = 0,
    saved: str = "",
    problem: str = "",
    upcoming: Sequence[str] = (),
) -> str:
    """Renders the card, or the honest empty state; scores and checkpoint stay hidden while somebody judges.

    Args:
        turn: changes with every card, so that the browser knows a new one from a redrawn one.
        heard: changes with every answer, so that the browser knows of each, two equal refusals too.
        upcoming: image ids of the card after this one, to load ahead.
    """
    view = card.view
    return render(
        "card.html",
        group=view.group if view else None,
        images=[image.image for image in view.images] if view else [],
        notice=card.notice,
        turn=turn,
        heard=heard,
        before=json.dumps({"best": card.best, "stars": dict(card.stars)}),
        upcoming=upcoming,
        done=progress.rated,
        skipped=progress.skipped,
        today=progress.rated_today,
        total=progress.rated + progress.open,
        saved=saved,
        problem=problem,
    )


def start(db: Database, annotator_id: str, wanted: object) -> Card:
    """What the page opens with: the group in its address, judged already or not, else the next task.

    Raises:
        NotSavedError: the lease could not be written.
    """
    if not isinstance(wanted, str) or not wanted:
        return Card(ratings.next_task(db, annotator_id))
    try:
        leased = ratings.lease_group(db, annotator_id, wanted)
        asked = leased or get_group(db, wanted, annotator_id)
    except LookupError:
        return Card(ratings.next_task(db, annotator_id), notice=_UNKNOWN)
    if leased:
        return Card(leased)
    if asked.group.state != "done" or asked.group.kind not in RATEABLE:
        return Card(ratings.next_task(db, annotator_id), notice=_NOT_OFFERED.format(asked.group.seq))
    said = ratings.current_ratings(db, wanted, annotator_id)
    return Card(asked, said.best, said.stars, _SKIPPED if said.skipped else _RATED, is_judged=True)


def upcoming(db: Database, annotator_id: str, shown: str | None) -> list[str]:
    """Image ids of the group after the shown one, so that the browser can load them ahead."""
    if shown is None:
        return []
    return [
        image.image.id
        for view in ratings.upcoming(db, annotator_id, exclude=[shown])
        for image in view.images
    ]

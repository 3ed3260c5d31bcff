"""An answer of the rating card: checked, and kept in one transaction that also gives the next group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from storage import ratings
from storage.engine import Database
from storage.groups import GroupView
from storage.models import RatingKind
from storage.ratings import RatingInput
from ui.forms import Refused

MAX_LEAD_MS = 24 * 3600 * 1000


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
        worst: image id, beside the best, or None.
        none_good: no image is any good; `rank` is then one list of all.
        reason: of a skip; empty for none.
    """

    key: str
    group_id: str
    best: str | None
    stars: Mapping[str, int]
    lead_ms: int | None
    pair: Mapping[str, Any] | None = None
    rank: Sequence[Sequence[str]] = ()
    flags: Mapping[str | None, Mapping[str, Any]] = field(default_factory=dict)
    worst: str | None = None
    none_good: bool = False
    reason: str = ""


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
    worst: object = None,
    none_good: object = False,
    reason: object = "",
) -> Answer:
    """Checks what a browser or a client sent; raises `Refused`.

    What pair, rank, flags and reason hold is checked where it is kept (storage.rating_kinds).
    """
    if not isinstance(group_id, str) or not isinstance(key, str) or not 8 <= len(key) <= 48:
        raise Refused("The answer names no group or has no key of 8 to 48 characters: reload the page.")
    if best is not None and not isinstance(best, str):
        raise Refused("The best image is named by its id: reload the page.")
    if worst and not best:
        raise Refused("The worst image stands beside the best one: pick the best as well.")
    if not isinstance(stars, Mapping) or any(
        type(value) is not int or not 1 <= value <= 5 for value in stars.values()
    ):
        raise Refused("Stars are whole numbers from 1 to 5, by image id.")
    given = {str(image): value for image, value in stars.items()}
    judged = _read_pair(pair), _read_rank(rank), _read_flags(flags)
    rest = str(worst) if worst else None, none_good is True, str(reason or "")
    return Answer(key, group_id, best or None, given, read_lead(lead_ms), *judged, *rest)


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
        worst = {"worst": answer.worst} if answer.worst else {}
        events.append(event("best", "b", answer.best, payload=worst))
    if answer.pair:
        events.append(event("pair", "p", payload=answer.pair))
    if answer.rank:
        none = {"none_good": True} if answer.none_good else {}
        events.append(event("rank", "r", payload={"order": answer.rank} | none))
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
    """Gives a group back unjudged, to somebody else, and returns the next one."""
    event = RatingInput(
        client_key=f"{answer.key}:skip",
        annotator_id=annotator_id,
        group_id=answer.group_id,
        kind="skip",
        payload={"reason": answer.reason} if answer.reason else {},
        lead_ms=answer.lead_ms,
    )
    return ratings.submit(db, annotator_id, answer.group_id, [event])

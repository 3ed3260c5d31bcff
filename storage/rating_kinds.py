"""What can be said about a group, kind by kind, and what each kind must look like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from storage.models import RatingEvent, RatingKind
from storage.types import safe_text

Flag = Literal["broken", "wrong_prompt", "unsafe", "other"]
"""What can be wrong with an image, or with a whole group."""
PairOutcome = Literal["left", "right", "tie", "bad"]
"""`bad`: neither of the two is any good."""
SkipReason = Literal["unclear", "cannot", "sensitive"]
"""The prompt is unclear; one cannot judge; it is not for this person's eyes."""

Mark = Literal["", "repeat", "check"]
REPEAT: Mark = "repeat"
"""Key in the payload of what was said when a group was asked a second time; only storage writes it."""
CHECK: Mark = "check"
"""Key in the payload of what was said of a group whose answer is known (storage.checks); likewise."""
MAX_KEY_LENGTH = 64
MAX_NOTE_LENGTH = 500
"""Characters."""
_MARKS: tuple[Mark, ...] = (REPEAT, CHECK)
_KINDS = ("stars", "best", "pair", "rank", "flags", "skip")


@dataclass(frozen=True)
class RatingInput:
    """One act of one of these kinds:

    stars: an image and 1..5.
    best: an image; payload {"worst": id of another image} or empty.
    pair: payload {"left": image id, "right": image id, "outcome": a PairOutcome}.
    rank: payload {"order": [[image ids that tie], ...]}, best first, at least two images of the group; with
        "none_good": true beside a single list where none of these is any good.
    flags: an image, or None for the whole group; payload {"flags": [Flags], "note": text or absent}. No flags
        take back those that were given before.
    skip: payload {"reason": a SkipReason} or empty.
    """

    client_key: str
    """Made by the browser, one per click; at most 64 characters."""
    annotator_id: str
    group_id: str
    kind: RatingKind
    image_id: str | None = None
    value: int | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)
    lead_ms: int | None = None
    """Milliseconds from showing the card to the act."""


def check_shape(rating: RatingInput) -> None:
    """Raises ValueError with a sentence for what no group could make right."""
    check_key(rating.client_key)
    if rating.kind not in _KINDS:
        raise ValueError(
            f"expected a rating of kind {', '.join(_KINDS[:-1])} or {_KINDS[-1]}, got {rating.kind!r}"
        )
    if rating.kind == "stars":
        if type(rating.value) is not int or not 1 <= rating.value <= 5:
            raise ValueError(f"expected 1 to 5 stars, got {rating.value!r}")
    elif rating.value is not None:
        raise ValueError(f"expected no value with {rating.kind}, got {rating.value!r}")
    needs_image = rating.kind in ("stars", "best")
    if rating.kind != "flags" and (rating.image_id is not None) != needs_image:
        raise ValueError(f"{rating.kind} needs {'an' if needs_image else 'no'} image")
    for mark in _MARKS:
        if mark in rating.payload:
            raise ValueError(f"expected a payload without {mark!r}: storage knows by itself what is no vote")
    check = _PAYLOADS.get(rating.kind)
    if check is not None:
        check(rating.payload)
    if rating.kind == "best" and rating.payload.get("worst") == rating.image_id:
        raise ValueError("the best image cannot be the worst as well: choose another one as the worst")


def check_key(client_key: str) -> None:
    """Raises ValueError for a key that is empty, too long, or holds what no database can."""
    safe_text(client_key)
    if not client_key or len(client_key) > MAX_KEY_LENGTH:
        raise ValueError(
            f"expected a key of 1 to {MAX_KEY_LENGTH} characters, got {len(client_key)}: make one per click"
        )


def images_of(rating: RatingInput) -> list[str]:
    """Ids of the images that it speaks of; for a shape that was checked."""
    named = [rating.image_id] if rating.image_id is not None else []
    if rating.kind == "best" and "worst" in rating.payload:
        return [*named, rating.payload["worst"]]
    if rating.kind == "pair":
        return [rating.payload["left"], rating.payload["right"]]
    if rating.kind == "rank":
        return [image for tied in rating.payload["order"] for image in tied]
    return named


def replaces(rating: RatingInput, earlier: RatingEvent) -> bool:
    """Whether it takes the place of an earlier event of the same annotator and group.

    Of stars and flags there is one for each image, of pairs one for each two images whichever was left, of
    the others one for the group.
    """
    if earlier.kind != rating.kind:
        return False
    if rating.kind in ("stars", "flags"):
        return earlier.image_id == rating.image_id
    if rating.kind == "pair":
        return pair_key(earlier.payload) == pair_key(rating.payload)
    return True


def pair_key(payload: Mapping[str, Any]) -> frozenset[str]:
    """The two images, whichever was left."""
    return frozenset((payload["left"], payload["right"]))


def mark_of(event: RatingEvent) -> Mark:
    """Why what was said is no vote; empty where it is one."""
    return next((mark for mark in _MARKS if event.payload.get(mark)), "")


def is_vote(event: RatingEvent) -> bool:
    """Whether it counts: neither a second answer to the same question nor one whose answer is known."""
    return mark_of(event) == ""


def is_repeat(event: RatingEvent) -> bool:
    """Whether it was said when the group was asked a second time, and so is no vote."""
    return mark_of(event) == REPEAT


def is_check(event: RatingEvent) -> bool:
    """Whether it was said of a group whose answer is known, and so is no vote."""
    return mark_of(event) == CHECK


def marked(payload: Mapping[str, Any], mark: Mark) -> dict[str, Any]:
    """A payload as it is kept."""
    return dict(payload) | ({mark: True} if mark else {})


def said_in(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A payload as it was given."""
    return {key: value for key, value in payload.items() if key not in _MARKS}


def _check_best(payload: Mapping[str, Any]) -> None:
    _only(payload, "best", ("worst",))
    if "worst" in payload and not isinstance(payload["worst"], str):
        raise ValueError(f"expected the worst image by its id, got {payload['worst']!r}")


def _check_skip(payload: Mapping[str, Any]) -> None:
    _only(payload, "skip", ("reason",))
    if "reason" in payload and payload["reason"] not in get_args(SkipReason):
        raise ValueError(f"expected a reason of {_listed(SkipReason)}, or none, got {payload['reason']!r}")


def _check_pair(payload: Mapping[str, Any]) -> None:
    _only(payload, "pair", ("left", "right", "outcome"))
    left, right, outcome = (payload.get(key) for key in ("left", "right", "outcome"))
    if not isinstance(left, str) or not isinstance(right, str) or left == right:
        raise ValueError(
            f"expected two different images, left and right, by their ids, got {left!r}, {right!r}"
        )
    if outcome not in get_args(PairOutcome):
        raise ValueError(f"expected an outcome of {_listed(PairOutcome)}, got {outcome!r}")


def _check_rank(payload: Mapping[str, Any]) -> None:
    _only(payload, "rank", ("order", "none_good"))
    order = payload.get("order")
    is_lists = isinstance(order, list | tuple) and all(
        isinstance(tied, list | tuple) and tied for tied in order
    )
    named = [image for tied in order for image in tied] if order is not None and is_lists else []
    if len(named) < 2 or not all(isinstance(image, str) for image in named):
        raise ValueError(
            "expected an order of at least two images, best first, as lists of the ids that tie, "
            f"got {str(order)[:80]}"
        )
    if len(set(named)) != len(named):
        raise ValueError("an image stands twice in the order: name each image once")
    if "none_good" in payload and (payload["none_good"] is not True or len(payload["order"]) != 1):
        raise ValueError(
            "none_good stands beside one list of images that tie, and is true: leave it out else"
        )


def _check_flags(payload: Mapping[str, Any]) -> None:
    _only(payload, "flags", ("flags", "note"))
    flags, note = payload.get("flags"), payload.get("note", "")
    known = isinstance(flags, list | tuple) and all(flag in get_args(Flag) for flag in flags)
    if flags is None or not known or len(set(flags)) != len(flags):
        raise ValueError(f"expected flags of {_listed(Flag)}, each once, got {str(flags)[:80]}")
    if not isinstance(note, str) or len(note) > MAX_NOTE_LENGTH:
        raise ValueError(f"expected a note of at most {MAX_NOTE_LENGTH} characters, got {str(note)[:80]!r}")
    if note and not flags:
        raise ValueError("a note stands with a flag: choose other where none fits")
    safe_text(note)


def _only(payload: Mapping[str, Any], kind: str, known: tuple[str, ...]) -> None:
    unknown = sorted(set(payload) - set(known))
    if unknown:
        raise ValueError(
            f"expected {', '.join(known)} with {kind}, got {', '.join(map(str, unknown))} as well"
        )


def _listed(kind: Any) -> str:
    *first, last = get_args(kind)
    return f"{', '.join(first)} or {last}"


_PAYLOADS: dict[str, Callable[[Mapping[str, Any]], None]] = {
    "best": _check_best,
    "skip": _check_skip,
    "pair": _check_pair,
    "rank": _check_rank,
    "flags": _check_flags,
}

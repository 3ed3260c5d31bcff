"""Groups that a file brings, as storage keeps them: with ids, and ratings whose shape was checked."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from dataclasses import dataclass
from typing import Any, Final, cast, get_args

from flowgrpo.config import SamplingConfig
from flowgrpo.sharing.checks import Row
from flowgrpo.sharing.told import Brought, Word
from storage.imported_ratings import GroupIn, ImageIn, SaidIn
from storage.lookup import prompt_hash
from storage.models import RatingKind
from storage.rating_kinds import CHECK, REPEAT, Mark, RatingInput, check_shape

_IDS: Final = uuid.UUID("5f9d1f0e-6a53-4b0c-9d5c-2b9b7f6a1c11")
"""The namespace of ids that follow from a file."""
_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HASH: Final = re.compile(r"[0-9A-Za-z_.:@#\-]{1,64}")
_MARKS: Final[dict[str, Mark]] = {"repeat": REPEAT, "check": CHECK}


@dataclass(frozen=True)
class Blob:
    """An image as the studio has it."""

    sha256: str
    width: int
    height: int


def left_out(brought: Brought) -> int:
    """Ratings of people whom the other studio had excluded: they are not taken over."""
    return len(brought.raw.get("votes", ())) - len(_taken(brought))


def _taken(brought: Brought) -> list[Row]:
    return [row for row in brought.raw.get("votes", ()) if row.values["status"] != "excluded"]


def _config(blob: Blob) -> dict[str, Any]:
    """How the images were drawn is not known: what pages show of it is their size."""
    return SamplingConfig().model_dump() | {"width": blob.width, "height": blob.height}


def of_others(brought: Brought, data: list[bytes], found: list[Blob], again: dict[str, int]) -> GroupIn:
    """A group of a format without ids of groups: they follow from prompt, images and words."""
    digests = [hashlib.sha256(one).hexdigest() for one in data]
    group_id = _id(prompt_hash(brought.prompt), *digests)
    images = [
        ImageIn(_id(group_id, place), place, place, *vars(blob).values()) for place, blob in enumerate(found)
    ]
    said = [_said(brought, group_id, images, word, again) for word in brought.words]
    return GroupIn(group_id, brought.prompt, brought.model, _config(found[0]), images, said)


def _id(*parts: object) -> str:
    return str(uuid.uuid5(_IDS, json.dumps([str(part) for part in parts])))


def _said(
    brought: Brought, group_id: str, images: list[ImageIn], word: Word, again: dict[str, int]
) -> SaidIn:
    """Who has no name in the file is a new person whenever the same group comes again."""
    annotator = word.annotator
    if annotator and not _HASH.fullmatch(annotator):
        annotator = hashlib.sha256(annotator.encode()).hexdigest()[:16]
    if not annotator:
        key = f"{group_id} {word.kind} {word.image}"
        again[key] = again.get(key, 0) + 1
        annotator = str(again[key]) if again[key] > 1 else ""
    payload: dict[str, Any] = {}
    if word.pair is not None:
        left, right, outcome = word.pair
        payload = {"left": images[left].id, "right": images[right].id, "outcome": outcome}
    elif word.order:
        payload = {"order": [[images[place].id for place in tied] for tied in word.order]}
    image = None if word.image is None else images[word.image].id
    said = SaidIn(
        _id(group_id, annotator, word.kind, image, word.value, json.dumps(payload)), annotator,
        cast(RatingKind, word.kind), image, word.value, payload, at=word.at,
    )  # fmt: skip
    _check(brought.where, group_id, said)
    return said


def _check(where: str, group_id: str, said: SaidIn) -> None:
    if said.kind == "undo":
        return
    try:
        check_shape(
            RatingInput(said.id, "local", group_id, said.kind, said.image_id, said.value, said.payload)
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def of_studio(brought: Brought, found: list[Blob]) -> GroupIn:
    """A group of another studio, or of this one: it keeps its ids. Raises ValueError for a row."""
    rows: list[Row] = brought.raw["images"]
    first = rows[0]
    images = [
        ImageIn(_own_id(row, "image_id"), place, _seed(row), *vars(blob).values())
        for place, (row, blob) in enumerate(zip(rows, found, strict=True))
    ]
    group_id = _own_id(first, "group_id")
    said: dict[str, SaidIn] = {}
    for row in _taken(brought):
        one = _event(row)
        if one.id in said:
            raise row.wrong("id", "an id that no other line has")
        if one.supersedes_id is not None and one.supersedes_id not in said:
            raise row.wrong("supersedes", "the id of an earlier line of the group")
        _check(row.where, group_id, one)
        said[one.id] = one
    made_at = first.time("created_at")
    words = list(said.values())
    return GroupIn(group_id, brought.prompt, brought.model, _config_of(first), images, words, made_at)


def _own_id(row: Row, column: str) -> str:
    value = row.text(column)
    if not _ID.fullmatch(value):
        raise row.wrong(column, "an id such as 01990000-0000-7000-8000-000000000000")
    return value


def _seed(row: Row) -> int:
    seed = row.whole("seed")
    if not 0 <= seed < 2**32:
        raise row.wrong("seed", "an unsigned 32-bit number")
    return seed


def _config_of(row: Row) -> dict[str, Any]:
    try:
        config = json.loads(row.text("config"))
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise row.wrong("config", "the settings of the group as a JSON object")
    return config


def _event(row: Row) -> SaidIn:
    kind = row.text("kind")
    if kind not in get_args(RatingKind):
        raise row.wrong("kind", "stars, best, pair, rank, flags, skip or undo")
    annotator = row.text("annotator")
    if not _HASH.fullmatch(annotator):
        raise row.wrong("annotator", "a hash of at most 64 letters and digits")
    status = row.text("status")
    supersedes = None if row.values.get("supersedes") is None else _own_id(row, "supersedes")
    if kind == "undo" and supersedes is None:
        raise row.wrong("supersedes", "the id of the rating that was taken back")
    image = None if row.values.get("image") is None else row.text("image")
    lead = None if row.values.get("lead_ms") is None else row.whole("lead_ms")
    value = None if row.values.get("value") is None else row.whole("value")
    return SaidIn(
        _own_id(row, "id"), annotator, cast(RatingKind, kind), image, value, row.values["payload"], lead,
        row.time("at"), _own_id(row, "act"), supersedes, _MARKS.get(status, ""),
    )  # fmt: skip

"""All that was said, as it was said: `votes.jsonl`, an object for each rating event, and `images.parquet`.

Nothing is left out: what was changed or taken back stands there with its `status`, and what takes it back.
The lines of a group stand together, and in order; `number` is the order over all groups.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final, TextIO, get_args

from flowgrpo.sharing import parquet
from flowgrpo.sharing.checks import Row, lines
from flowgrpo.sharing.told import Brought, Shown, Split, Status, Told

SCHEMA_VERSION: Final = 1
VOTES: Final = "votes.jsonl"
IMAGES: Final = "images.parquet"
COLUMNS: Final[parquet.Columns] = {
    "image_id": parquet.TEXT,
    "group_id": parquet.TEXT,
    "index": parquet.WHOLE,
    "file": parquet.TEXT,
    "sha256": parquet.TEXT,
    "width": parquet.WHOLE,
    "height": parquet.WHOLE,
    "seed": parquet.WHOLE,
    "prompt": parquet.TEXT,
    "prompt_hash": parquet.TEXT,
    "split": parquet.TEXT,
    "model": parquet.TEXT,
    "config": parquet.TEXT,
    "created_at": parquet.TIME,
}


def write(folder: Path, groups: Iterable[Told], version: str) -> int:
    """Writes votes, images and their list, and returns how many images there are.

    Args:
        version: of the program.
    """
    with (folder / VOTES).open("x", encoding="utf-8") as votes:
        return parquet.write(folder / IMAGES, COLUMNS, _rows(folder, groups, votes, version))


def _rows(folder: Path, groups: Iterable[Told], votes: TextIO, version: str) -> Iterator[dict[str, Any]]:
    for told in groups:
        for line in vote_lines(told, version):
            votes.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
        for image in told.images:
            yield _image(told, image, _write_png(folder / image.file, image))


def vote_lines(told: Told, version: str) -> Iterator[dict[str, Any]]:
    """The lines of a group."""
    for one in told.said:
        yield {
            "schema_version": SCHEMA_VERSION,
            "id": one.id,
            "number": one.number,
            "at": one.at.isoformat(),
            "annotator": one.annotator,
            "kind": one.kind,
            "group": told.id,
            "prompt": told.prompt,
            "split": told.split,
            "images": [image.id for image in told.images],
            "image": one.image,
            "value": one.value,
            "payload": dict(one.payload),
            "status": one.status,
            "act": one.act,
            "supersedes": one.supersedes,
            "lead_ms": one.lead_ms,
            "is_blind": True if one.lead_ms is not None else None,
            "app_version": version,
        }


def _image(told: Told, image: Shown, sha256: str) -> dict[str, Any]:
    return {
        "image_id": image.id,
        "group_id": told.id,
        "index": image.index,
        "file": image.file,
        "sha256": sha256,
        "width": image.width,
        "height": image.height,
        "seed": image.seed,
        "prompt": told.prompt,
        "prompt_hash": told.prompt_hash,
        "split": told.split,
        "model": told.model,
        "config": json.dumps(told.config, ensure_ascii=False, sort_keys=True),
        "created_at": told.created_at,
    }


def _write_png(path: Path, image: Shown) -> str:
    """Writes the pixels of an image alone, and returns the SHA-256 of the file."""
    png = pixels_of(image.path.read_bytes())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png)
    return hashlib.sha256(png).hexdigest()


def pixels_of(png: bytes) -> bytes:
    """A PNG without any chunk that is not about its pixels."""
    position, kept = 8, [png[:8]]
    while position + 12 <= len(png):
        end = position + 12 + int.from_bytes(png[position : position + 4])
        if png[position + 4 : position + 8] in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            kept.append(png[position:end])
        position = end
    return b"".join(kept)


def read(folder: Path) -> Iterator[Brought]:
    """A group for each that has votes, with `raw` = {"images", "votes"}: rows of the two files, checked.

    Raises ValueError for a row that does not fit.
    """
    images = _images_by_group(folder)
    seen: set[str] = set()
    for group_id, together in groupby(lines(folder / VOTES), key=lambda row: row.text("group")):
        votes = list(together)
        if group_id in seen or group_id not in images:
            why = "the id of a group of images.parquet, whose lines stand together"
            raise votes[0].wrong("group", why)
        seen.add(group_id)
        yield _group(folder, images[group_id], votes)


def _images_by_group(folder: Path) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for number, values in enumerate(parquet.read(folder / IMAGES), start=1):
        row = Row(IMAGES, number, values)
        of_group = found.setdefault(row.text("group_id"), [])
        if row.whole("index") != len(of_group):
            raise row.wrong("index", f"{len(of_group)}, the next one of its group")
        of_group.append(row)
    return found


def _group(folder: Path, images: Sequence[Row], votes: Sequence[Row]) -> Brought:
    first = images[0]
    known = {row.text("image_id") for row in images}
    for row in votes:
        _check_vote(row, known)
    pictures = tuple(row.picture("file", row.text("file"), [folder]) for row in images)
    raw: Mapping[str, Any] = {"images": list(images), "votes": list(votes)}
    split = _split(first)
    return Brought(votes[0].where, first.text("prompt"), split, first.text("model", ""), pictures, raw=raw)


def _check_vote(row: Row, known: set[str]) -> None:
    if row.whole("schema_version") > SCHEMA_VERSION:
        raise row.wrong("schema_version", f"at most {SCHEMA_VERSION}: a newer studio wrote this")
    if row.text("status") not in get_args(Status):
        raise row.wrong("status", f"one of {', '.join(get_args(Status))}")
    named = [row.values.get("image")] if row.values.get("image") is not None else []
    payload = row.get("payload", dict, "an object")
    named += [payload[key] for key in ("left", "right", "worst") if key in payload]
    named += [one for tied in payload.get("order", ()) for one in tied]
    if not set(map(str, named)) <= known:
        raise row.wrong(
            "payload" if row.values.get("image") in (None, *known) else "image", "images of the group"
        )


def _split(row: Row) -> Split:
    for split in ("train", "validation", "test"):
        if row.values.get("split") == split:
            return split
    raise row.wrong("split", "train, validation or test")

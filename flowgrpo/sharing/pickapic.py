"""Pick-a-Pic v2: a Parquet file for each split, a row for each pair, the images in it as JPEG.

The trainer of Diffusion-DPO reads `jpg_0`, `jpg_1`, `label_0` and `caption`, and keeps what is no tie.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from flowgrpo import pixels
from flowgrpo.sharing import parquet
from flowgrpo.sharing.checks import Row, split_of_file
from flowgrpo.sharing.pairs import Pair, pairs_of
from flowgrpo.sharing.told import SPLITS, Brought, Picture, Shown, Split, Told, Word

COLUMNS: Final[parquet.Columns] = {
    "are_different": parquet.FLAG,
    "best_image_uid": parquet.TEXT,
    "caption": parquet.TEXT,
    "created_at": parquet.TIME,
    "has_label": parquet.FLAG,
    "image_0_uid": parquet.TEXT,
    "image_0_url": parquet.TEXT,
    "image_1_uid": parquet.TEXT,
    "image_1_url": parquet.TEXT,
    "jpg_0": parquet.BYTES,
    "jpg_1": parquet.BYTES,
    "label_0": parquet.REAL,
    "label_1": parquet.REAL,
    "model_0": parquet.TEXT,
    "model_1": parquet.TEXT,
    "ranking_id": parquet.WHOLE,
    "user_id": parquet.WHOLE,
    "num_example_per_prompt": parquet.WHOLE,
}
NEEDED: Final = ("caption", "jpg_0", "jpg_1", "label_0")
"""Columns by which a file is known."""
QUALITY: Final = 95
"""Of JPEG."""
TIE: Final = "tie"
"""In the place of the better one's uid."""
_USER_DIGITS: Final = 15
"""Hexadecimal digits of a hash that fit into a whole number of 64 bits."""


def write(
    folder: Path, groups: Callable[[Split], Iterable[Told]], per_prompt: Mapping[str, int]
) -> dict[str, int]:
    """Writes a file for each split that has pairs, and returns how many each has.

    Args:
        groups: the groups of a split.
        per_prompt: prompt hash to the number of its pairs.
    """
    return {
        split: parquet.write(folder / f"{split}.parquet", COLUMNS, _rows(groups(split), per_prompt))
        for split in SPLITS
    }


def _rows(groups: Iterable[Told], per_prompt: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    for told in groups:
        jpegs: dict[str, bytes] = {}
        for pair in pairs_of(told):
            for shown in (pair.first, pair.second):
                if shown.id not in jpegs:
                    jpegs[shown.id] = jpeg(shown)
            yield _row(told, pair, jpegs, per_prompt[told.prompt_hash])


def _row(told: Told, pair: Pair, jpegs: Mapping[str, bytes], count: int) -> dict[str, Any]:
    best = {1.0: pair.first.id, 0.0: pair.second.id}.get(pair.label, TIE)
    return {
        "are_different": jpegs[pair.first.id] != jpegs[pair.second.id],
        "best_image_uid": best,
        "caption": told.prompt,
        "created_at": pair.at,
        "has_label": True,
        "image_0_uid": pair.first.id,
        "image_0_url": pair.first.file,
        "image_1_uid": pair.second.id,
        "image_1_url": pair.second.file,
        "jpg_0": jpegs[pair.first.id],
        "jpg_1": jpegs[pair.second.id],
        "label_0": pair.label,
        "label_1": 1.0 - pair.label,
        "model_0": told.model,
        "model_1": told.model,
        "ranking_id": pair.number,
        "user_id": int(pair.annotator[:_USER_DIGITS], 16),
        "num_example_per_prompt": count,
    }


def jpeg(shown: Shown) -> bytes:
    """The image as JPEG, without anything beside its pixels."""
    image = pixels.decode(shown.path, ("PNG",))
    image.info.clear()
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def read(path: Path) -> Iterator[Brought]:
    """A group for each row. Raises ValueError for a row that does not fit."""
    split = split_of_file(path)
    for number, values in enumerate(parquet.read(path), start=1):
        row = Row(path.name, number, values)
        if row.values.get("has_label") is False:
            continue
        yield Brought(row.where, row.text("caption"), split, _model(row), _pictures(row), (_word(row),))


def _word(row: Row) -> Word:
    label = row.number("label_0")
    outcome = {1.0: "left", 0.0: "right", 0.5: "tie"}.get(label)
    if outcome is None:
        raise row.wrong("label_0", "1, 0 or 0.5")
    if row.values.get("label_1") is not None and row.number("label_1") != 1.0 - label:
        raise row.wrong("label_1", f"{1.0 - label:g}, what label_0 leaves")
    user = "" if row.values.get("user_id") is None else str(row.whole("user_id"))
    return Word(user, "pair", pair=(0, 1, outcome), at=row.time("created_at"))


def _pictures(row: Row) -> tuple[Picture, Picture]:
    first, second = (
        Picture(f"{row.where}, column {column}", data=row.get(column, bytes, "the bytes of an image"))
        for column in ("jpg_0", "jpg_1")
    )
    return first, second


def _model(row: Row) -> str:
    return " / ".join(dict.fromkeys(filter(None, (row.text(f"model_{place}", "") for place in (0, 1)))))

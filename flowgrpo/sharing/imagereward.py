"""ImageRewardDB: a row for each image that a person judged beside others, with its rank and rating.

`prompt_id` is the same for the images that one person saw together. Ratings go from 1 to 7 there: stars from
1 to 5 become 1, 2, 4, 6 and 7. Only the overall rating is asked for here; the two others are null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from flowgrpo.sharing import parquet
from flowgrpo.sharing.checks import Row, listed, split_of_file
from flowgrpo.sharing.hpd import levels
from flowgrpo.sharing.pairs import by_person, pairs_of, people, ranks_of
from flowgrpo.sharing.textfiles import write_list
from flowgrpo.sharing.told import SPLITS, Brought, Split, Told, Word

STARS: Final = {1: 1, 2: 2, 3: 4, 4: 6, 5: 7}
"""Stars to the rating there."""
RATINGS: Final = range(1, 8)
_BACK: Final = {1: 1, 2: 2, 3: 2, 4: 3, 5: 4, 6: 4, 7: 5}


def write(folder: Path, groups: Callable[[Split], Iterable[Told]]) -> dict[str, int]:
    """Writes a file for each split that has rows, and returns how many each has."""
    return {split: write_list(folder / f"{split}.json", _rows(groups(split))) for split in SPLITS}


def _rows(groups: Iterable[Told]) -> Iterator[dict[str, Any]]:
    for told in groups:
        said = by_person(told)
        for annotator, pairs in people(pairs_of(told)).items():
            ranks = ranks_of(pairs)
            stars = {one.image: one.value for one in said[annotator] if one.kind == "stars"}
            for image in told.images:
                if image.id in ranks:
                    given = stars.get(image.id)
                    yield {
                        "image_path": image.file,
                        "prompt_id": f"{told.id}-{annotator}",
                        "prompt": told.prompt,
                        "classification": "",
                        "image_amount_in_total": len(ranks),
                        "rank": ranks[image.id],
                        "overall_rating": None if given is None else STARS[given],
                        "image_text_alignment_rating": None,
                        "fidelity_rating": None,
                    }


def read(path: Path, roots: list[Path]) -> Iterator[Brought]:
    """A group for each `prompt_id`, whose rows stand together. Raises ValueError for a row that is wrong."""
    rows = listed(path) if path.suffix == ".json" else _parquet(path)
    seen: set[str] = set()
    for name, together in groupby(rows, key=lambda row: row.text("prompt_id")):
        part = list(together)
        if name in seen:
            raise part[0].wrong("prompt_id", "rows of one prompt_id that stand together")
        seen.add(name)
        yield _group(path, name, part, roots)


def _parquet(path: Path) -> Iterator[Row]:
    yield from (Row(path.name, number, one) for number, one in enumerate(parquet.read(path), start=1))


def _group(path: Path, name: str, rows: Sequence[Row], roots: list[Path]) -> Brought:
    first = rows[0]
    for row in rows:
        if row.text("prompt") != first.text("prompt"):
            raise row.wrong("prompt", "the prompt of the other rows of its prompt_id")
        if row.whole("rank") < 1:
            raise row.wrong("rank", "1 or more")
    if len(rows) < 2:
        raise first.wrong("prompt_id", "at least two images of one prompt_id")
    pictures = tuple(row.picture("image_path", row.text("image_path"), roots) for row in rows)
    who = name.rpartition("-")[2]
    order = levels([row.whole("rank") for row in rows])
    words = [Word(who, "rank", order=order)]
    for place, row in enumerate(rows):
        if row.values.get("overall_rating") is not None:
            words.append(Word(who, "stars", image=place, value=_stars(row)))
    return Brought(first.where, first.text("prompt"), split_of_file(path), "", pictures, tuple(words))


def _stars(row: Row) -> int:
    rating = row.number("overall_rating")
    if rating not in RATINGS:
        raise row.wrong("overall_rating", "a whole number from 1 to 7")
    return _BACK[int(rating)]

"""HPDv2: pairs to train on, and whole rankings, each person's own among them, to test with.

    train, validation    {"prompt", "file_path": [2 paths], "human_preference": [1, 0] or [0, 1]}
    test                 {"prompt", "image_path": [paths], "rank": [1 for the best ...],
                          "raw_annotations": [{"rank", "user_hash"}]}

A tie is no row of train. A row of test has the people who judged the same images of a group; its rank is that
of their mean ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from flowgrpo.sharing.checks import Row, listed, split_of_file
from flowgrpo.sharing.pairs import pairs_of, people, ranks_of
from flowgrpo.sharing.textfiles import write_list
from flowgrpo.sharing.told import Brought, Split, Told, Word


def write(folder: Path, groups: Callable[[Split], Iterable[Told]]) -> dict[str, int]:
    """Writes a file for each split that has rows, and returns how many each has."""
    return {
        "train": write_list(folder / "train.json", _pairs(groups("train"))),
        "validation": write_list(folder / "validation.json", _pairs(groups("validation"))),
        "test": write_list(folder / "test.json", _rankings(groups("test"))),
    }


def _pairs(groups: Iterable[Told]) -> Iterator[dict[str, Any]]:
    for told in groups:
        for pair in pairs_of(told):
            if pair.label != 0.5:
                files = [pair.first.file, pair.second.file]
                preference = [int(pair.label), 1 - int(pair.label)]
                yield {"prompt": told.prompt, "file_path": files, "human_preference": preference}


def _rankings(groups: Iterable[Told]) -> Iterator[dict[str, Any]]:
    for told in groups:
        of_images: dict[tuple[str, ...], dict[str, list[int]]] = {}
        for annotator, pairs in people(pairs_of(told)).items():
            ranks = ranks_of(pairs)
            judged = tuple(image.id for image in told.images if image.id in ranks)
            of_images.setdefault(judged, {})[annotator] = [ranks[one] for one in judged]
        files = {image.id: image.file for image in told.images}
        for judged, said in of_images.items():
            yield {
                "prompt": told.prompt,
                "image_path": [files[one] for one in judged],
                "rank": _together(list(said.values())),
                "raw_annotations": [{"rank": rank, "user_hash": who} for who, rank in said.items()],
            }


def _together(said: Sequence[Sequence[int]]) -> list[int]:
    sums = [sum(ranks) for ranks in zip(*said, strict=True)]
    return [1 + sum(other < mine for other in sums) for mine in sums]


def read(path: Path, roots: list[Path]) -> Iterator[Brought]:
    """A group for each row of either shape. Raises ValueError for a row that does not fit."""
    split = split_of_file(path)
    for row in listed(path):
        column = "file_path" if "file_path" in row.values else "image_path"
        names = row.items(column, str, "a list of at least two paths")
        if len(names) < 2:
            raise row.wrong(column, "a list of at least two paths")
        words = _preference(row) if column == "file_path" else _ranks(row, len(names))
        pictures = tuple(row.picture(column, name, roots) for name in names)
        yield Brought(row.where, row.text("prompt"), split, "", pictures, words)


def _preference(row: Row) -> tuple[Word, ...]:
    said = row.items("human_preference", int, "[1, 0] or [0, 1]")
    if sorted(said) != [0, 1] or len(row.values["file_path"]) != 2:
        raise row.wrong("human_preference", "[1, 0] or [0, 1], beside two images")
    return (Word("", "pair", pair=(0, 1, "left" if said[0] else "right")),)


def _ranks(row: Row, count: int) -> tuple[Word, ...]:
    if row.values.get("raw_annotations") is None:
        return (Word("", "rank", order=order_of(row, "rank", count)),)
    said = row.items("raw_annotations", dict, "a list of objects with rank and user_hash")
    inner = [Row(f"{row.where}, raw_annotations", number, one) for number, one in enumerate(said, start=1)]
    return tuple(Word(one.text("user_hash", ""), "rank", order=order_of(one, "rank", count)) for one in inner)


def order_of(row: Row, column: str, count: int) -> tuple[tuple[int, ...], ...]:
    """Places of the images, best first, those that tie together; from a rank for each image."""
    ranks = row.items(column, int, f"a list of {count} whole numbers")
    if len(ranks) != count:
        raise row.wrong(column, f"a list of {count} whole numbers, one for each image")
    return levels(ranks)


def levels(ranks: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """The same of ranks that were checked."""
    return tuple(
        tuple(place for place, one in enumerate(ranks) if one == rank) for rank in sorted(set(ranks))
    )

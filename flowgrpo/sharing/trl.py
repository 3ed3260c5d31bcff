"""TRL: `prompt, chosen, rejected` for pairs, and `prompt, completion, label` for single images; as .jsonl.

Images are paths. A tie is no pair. Unpaired, an image is good where a person only preferred it to others, and
bad where that person only preferred others to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from flowgrpo.sharing.checks import lines, split_of_file
from flowgrpo.sharing.pairs import pairs_of, people, verdicts
from flowgrpo.sharing.textfiles import write_lines
from flowgrpo.sharing.told import SPLITS, Brought, Split, Told, Word


def write(folder: Path, groups: Callable[[Split], Iterable[Told]]) -> dict[str, int]:
    """Writes two files for each split that has rows, and returns how many pairs each has."""
    counts: dict[str, int] = {
        split: write_lines(folder / f"{split}.jsonl", _pairs(groups(split))) for split in SPLITS
    }
    for split in SPLITS:
        write_lines(folder / f"{split}_unpaired.jsonl", _single(groups(split)))
    return counts


def _pairs(groups: Iterable[Told]) -> Iterator[dict[str, Any]]:
    for told in groups:
        for pair in pairs_of(told):
            if pair.label != 0.5:
                files = pair.first.file, pair.second.file
                chosen, rejected = files if pair.label == 1 else files[::-1]
                yield {"prompt": told.prompt, "chosen": chosen, "rejected": rejected}


def _single(groups: Iterable[Told]) -> Iterator[dict[str, Any]]:
    for told in groups:
        for pairs in people(pairs_of(told)).values():
            good = verdicts(pairs)
            for image in told.images:
                if image.id in good:
                    yield {"prompt": told.prompt, "completion": image.file, "label": good[image.id]}


def read(path: Path, roots: list[Path]) -> Iterator[Brought]:
    """A group for each pair. Raises ValueError for a row that does not fit; an unpaired one is none."""
    for row in lines(path):
        if "completion" in row.values:
            raise row.wrong("chosen", "pairs with chosen and rejected (unpaired rows compare nothing)")
        pictures = tuple(row.picture(column, row.text(column), roots) for column in ("chosen", "rejected"))
        word = Word("", "pair", pair=(0, 1, "left"))
        yield Brought(row.where, row.text("prompt"), split_of_file(path), "", pictures, (word,))

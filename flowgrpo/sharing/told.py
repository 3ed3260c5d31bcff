"""What goes out and comes in, whatever the format: groups of images, and what people said of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Status = Literal["stands", "superseded", "undone", "undo", "repeat", "check", "excluded"]
"""Of a rating. `repeat` and `check` are second answers and answers to known questions: no votes."""
Source = Literal["pair", "rank", "best", "stars"]
PER_VALIDATION, PER_TEST = 5, 5
"""Of a hundred prompts."""


@dataclass(frozen=True)
class Shown:
    """An image of a group.

    Attributes:
        path: of its PNG.
    """

    id: str
    index: int
    seed: int
    width: int
    height: int
    path: Path

    @property
    def file(self) -> str:
        """Where it lies in an export, whose folders hold a few hundred images of each hundred thousand."""
        return f"images/{self.id[-2:]}/{self.id}.png"


@dataclass(frozen=True)
class Said:
    """One rating event.

    Attributes:
        number: counts up over the whole studio.
        annotator: a keyed hash.
        payload: its form is in storage.rating_kinds.
        act: shared by ratings that were given together.
    """

    id: str
    number: int
    annotator: str
    kind: str
    image: str | None
    value: int | None
    payload: Mapping[str, Any]
    lead_ms: int | None
    at: datetime
    act: str
    supersedes: str | None
    status: Status


@dataclass(frozen=True)
class Told:
    """A group with all that was said of it, in order; its images in the order in which they were shown."""

    id: str
    number: int
    prompt: str
    prompt_hash: str
    split: Split
    model: str
    config: Mapping[str, Any]
    created_at: datetime
    images: tuple[Shown, ...]
    said: tuple[Said, ...]


@dataclass(frozen=True)
class Picture:
    """An image that a file brings: its bytes, or where they lie.

    Attributes:
        where: what sentences call it.
    """

    where: str
    data: bytes | None = None
    path: Path | None = None

    def read(self) -> bytes:
        """Its bytes; ValueError where there is no such file."""
        if self.data is not None:
            return self.data
        if self.path is None or not self.path.is_file():
            raise ValueError(
                f"{self.where}: there is no such image file; put it in its place, or remove the row"
            )
        return self.path.read_bytes()


@dataclass(frozen=True)
class Word:
    """One rating that a file brings; images by their place in the group."""

    annotator: str
    kind: str
    image: int | None = None
    value: int | None = None
    pair: tuple[int, int, str] | None = None
    """(left, right, outcome)."""
    order: tuple[tuple[int, ...], ...] = ()
    at: datetime | None = None
    again: int = 0
    """Of equal words of one annotator, which one it is."""


@dataclass(frozen=True)
class Brought:
    """A group that a file brings.

    Attributes:
        where: file and row, for sentences.
        raw: ids, seeds and whole events, where the file is of a studio.
    """

    where: str
    prompt: str
    split: Split
    model: str
    pictures: tuple[Picture, ...]
    words: tuple[Word, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict)


def split_of(prompt_hash: str, held_out: set[str]) -> Split:
    """By prompt, so that no prompt is in two splits, and the same in every export.

    Args:
        prompt_hash: of the prompt without regard to case, width and spacing.
        held_out: hashes of prompts that are held out; these go to test.
    """
    if prompt_hash in held_out:
        return "test"
    place = int.from_bytes(hashlib.sha256(f"split {prompt_hash}".encode()).digest()[:8]) % 100
    if place < PER_TEST:
        return "test"
    return "validation" if place < PER_TEST + PER_VALIDATION else "train"

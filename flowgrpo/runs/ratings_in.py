"""Ratings of elsewhere into a studio: the whole file is looked at first, and a bad one leaves nothing.

Then images become blobs, and groups rows, some at a time. What breaks off there is finished by importing the
file once more: every id follows from what stands in the file, so nothing is there twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from flowgrpo.decoder import Decoder, DecoderError
from flowgrpo.runs.ratings_rows import Blob, left_out, of_others, of_studio
from flowgrpo.sharing.reading import read
from flowgrpo.sharing.told import Brought, Picture
from storage import blobs, imported_ratings, prompts
from storage.engine import Database
from storage.imported_ratings import GroupIn, Kept
from storage.lookup import checked_prompt, prompt_hash
from storage.types import new_id, safe_text

FORMATS: Final = ("JPEG", "PNG", "WEBP")
"""What is decoded, as of uploads."""
MAX_PIXELS: Final = 4096 * 4096
_PART: Final = 100
"""Groups in one transaction: a vote waits no longer than these take."""
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Imported:
    """What the file has, and what of it was new."""

    groups: int
    ratings: int
    new: Kept
    left_out: int
    """Ratings of people whom the other studio had excluded."""


def import_ratings(
    db: Database, path: Path, *, images: Path | None = None, by: str = "local", tell: Tell = lambda _: None
) -> Imported:
    """Takes over ratings of Pick-a-Pic, HPDv2, ImageRewardDB, TRL, or of another studio.

    Args:
        images: where paths of images start from, unless at the file.
        tell: hears how far it is.

    Raises:
        LookupError: there is no such file.
        ValueError: a row that does not fit, named with its column; nothing was kept.
        NotSavedError: the disk is full; what was kept is found again by the next try.
    """
    pictures = Pictures(db.home.resolve(), Decoder())
    total, gone, splits = Kept(0, 0), 0, dict[str, tuple[str, str]]()
    for number, (brought, group) in enumerate(_groups(path, images, pictures.size), start=1):
        total += Kept(1, len(group.said))
        gone += left_out(brought)
        splits[prompt_hash(group.prompt)] = group.prompt, brought.split
        _say(tell, number, "groups are checked")
    if not total.groups:
        raise ValueError(f"there are no ratings in {path.name}: nothing was imported")
    new = _keep_all(db, _groups(path, images, pictures.store), tell)
    _save_prompts(db, path, list(splits.values()))
    imported_ratings.note_import(db, path.name, new, by)
    return Imported(total.groups, total.ratings, new, gone)


def _say(tell: Tell, number: int, what: str) -> None:
    if number % _PART == 0:
        tell(f"{number:,} {what}")


def _keep_all(db: Database, groups: Iterator[tuple[Brought, GroupIn]], tell: Tell) -> Kept:
    kept, waiting = Kept(0, 0), list[GroupIn]()
    for number, (_, group) in enumerate(groups, start=1):
        waiting.append(group)
        if len(waiting) == _PART:
            kept, waiting = kept + imported_ratings.keep(db, waiting), []
        _say(tell, number, "groups are kept")
    return kept + imported_ratings.keep(db, waiting)


def _save_prompts(db: Database, path: Path, known: list[tuple[str, str]]) -> None:
    """Keeps the prompts as a set, those of test held out; one without any to train on is none."""
    train = [prompt for prompt, split in known if split != "test"]
    if train:
        held_out = [prompt for prompt, split in known if split == "test"]
        prompts.save_prompt_set(db, f"imported {path.name}"[:120], train, held_out)


class Pictures:
    """Images of a file: looked at, then kept, each once. What decodes them is a process of its own."""

    def __init__(self, home: Path, decoder: Decoder) -> None:
        self.home, self.decoder = home, decoder
        self._sizes: dict[bytes, Blob] = {}
        self._blobs: dict[bytes, Blob] = {}

    def size(self, picture: Picture, data: bytes) -> Blob:
        """Decodes it wholly. Raises ValueError for what is no image, damaged, or too large."""
        key = hashlib.sha256(data).digest()
        if key not in self._sizes:
            _, self._sizes[key] = self._decoded(picture, data)
        return self._sizes[key]

    def store(self, picture: Picture, data: bytes) -> Blob:
        """Keeps its pixels as a PNG written anew."""
        key = hashlib.sha256(data).digest()
        if key not in self._blobs:
            png, size = self._decoded(picture, data)
            self._blobs[key] = replace(size, sha256=blobs.put_png(self.home, png))
        return self._blobs[key]

    def _decoded(self, picture: Picture, data: bytes) -> tuple[bytes, Blob]:
        """Its pixels as a PNG, and its size."""
        sent = self.home / "tmp" / f"{new_id()}.image"
        png = sent.with_suffix(".png")
        try:
            sent.write_bytes(data)
            width, height = self._asked("size", sent, png)["size"]
            if width * height > MAX_PIXELS:
                raise ValueError(f"it has more than {MAX_PIXELS // 10**6} million pixels")
            self._asked("png", sent, png)
            return png.read_bytes(), Blob("", width, height)
        except (ValueError, DecoderError) as error:
            reason = str(error).replace(str(sent), "the image")
            raise ValueError(f"{picture.where}: {reason}; repair it, or remove the row") from error
        finally:
            sent.unlink(missing_ok=True)
            png.unlink(missing_ok=True)

    def _asked(self, op: str, source: Path, target: Path) -> dict[str, Any]:
        """The decoder's answer; another one is started where it ended at an earlier image."""
        asked = {"op": op, "source": str(source), "target": str(target), "formats": FORMATS}
        try:
            answer = self.decoder.ask(asked)
        except DecoderError as error:
            self.decoder = Decoder()
            raise DecoderError(f"it {error}") from error
        if "reason" in answer:
            raise ValueError(answer["reason"])
        return answer


def _groups(
    path: Path, images: Path | None, blob_of: Callable[[Picture, bytes], Blob]
) -> Iterator[tuple[Brought, GroupIn]]:
    """The groups of a file with the ids that they get; their ratings have a shape that storage takes."""
    again: dict[str, int] = {}
    for brought in read(path, images):
        try:
            checked_prompt(safe_text(brought.prompt))
        except ValueError as error:
            raise ValueError(f"{brought.where}, column prompt or caption: {error}") from error
        data = [picture.read() for picture in brought.pictures]
        found = [blob_of(*both) for both in zip(brought.pictures, data, strict=True)]
        group = of_studio(brought, found) if brought.raw else of_others(brought, data, found, again)
        yield brought, group

"""Ratings of elsewhere into a studio: the whole file is looked at first, and a bad one leaves nothing.

Then images become blobs, and groups rows, some at a time. What breaks off there is finished by importing the
file once more: every id follows from what stands in the file, so nothing is there twice.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flowgrpo import pixels
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
    pictures = Pictures(db.home)
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
    """Images of a file: looked at, then kept, each once."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._sizes: dict[bytes, Blob] = {}
        self._blobs: dict[bytes, Blob] = {}

    def size(self, picture: Picture, data: bytes) -> Blob:
        """Decodes it wholly. Raises ValueError for what is no image, damaged, or too large."""
        key = hashlib.sha256(data).digest()
        if key not in self._sizes:
            image = self._decoded(picture, data)
            self._sizes[key] = Blob("", image.width, image.height)
        return self._sizes[key]

    def store(self, picture: Picture, data: bytes) -> Blob:
        """Keeps its pixels as a PNG written anew."""
        key = hashlib.sha256(data).digest()
        if key not in self._blobs:
            image = self._decoded(picture, data)
            image.info.clear()
            buffer = io.BytesIO()
            image.save(buffer, "PNG", compress_level=1)
            sha256 = blobs.put_png(self.home, buffer.getvalue())
            self._blobs[key] = Blob(sha256, image.width, image.height)
        return self._blobs[key]

    def _decoded(self, picture: Picture, data: bytes) -> Any:
        file = self.home / "tmp" / f"{new_id()}.image"
        try:
            file.write_bytes(data)
            width, height = pixels.upright_size(file, FORMATS)
            if width * height > MAX_PIXELS:
                raise ValueError(f"it has more than {MAX_PIXELS // 10**6} million pixels")
            return pixels.decode(file, FORMATS)
        except ValueError as error:
            reason = str(error).replace(str(file), "the image")
            raise ValueError(f"{picture.where}: {reason}; repair it, or remove the row") from error
        finally:
            file.unlink(missing_ok=True)


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

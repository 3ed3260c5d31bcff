"""A small studio in which four people said all that can be said, of prompts of all three splits."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from flowgrpo.sharing.told import SPLITS, split_of
from storage import blobs, checkpoints, exclusion, groups, prompts, ratings, users
from storage.engine import Database, open_database
from storage.groups import GroupView
from storage.lookup import prompt_hash
from storage.models import Checkpoint, RatingKind
from storage.ratings import RatingInput
from tests.storage.ready import ready
from tests.storage.records import CONFIG

HELD_OUT = "a held-out lighthouse, “quoted”, 猫"
NAMES = ("Ann Secret", "Bob Secret", "Cleo Secret", "Dan Secret")


def png(seed: int, side: int = 16) -> bytes:
    """A PNG that says in words what nobody may read; each seed has its own brightness."""
    said = PngImagePlugin.PngInfo()
    said.add_text("parameters", "secret parameters")
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (seed * 29 % 256, seed * 7 % 256, 90)).save(buffer, "PNG", pnginfo=said)
    return buffer.getvalue()


def drawn(db: Database, base: Checkpoint, prompt: str, seeds: range, side: int = 16) -> GroupView:
    group = groups.request_group(
        db, prompt=prompt, checkpoint_id=base.id, config=CONFIG, seeds=seeds, worker_id="host:cpu"
    )
    for index, seed in enumerate(seeds):
        sha256 = blobs.put_png(db.home, png(seed, side))
        groups.add_image(
            db, group_id=group.id, index=index, seed=seed, sha256=sha256, width=side, height=side
        )
    groups.finish_group(db, group.id)
    return groups.get_group(db, group.id)


class Opinions:
    """The studio, its people, and its groups by what was said of them."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.base = checkpoints.register_base(db, name="starter", source="weights/pipeline", family="sdxl")
        self.people = [users.add_user(db, name, "annotator").id for name in NAMES]
        self.groups: dict[str, GroupView] = {}
        self._clicks = 0
        texts = {split: [text for text in map("portrait {}".format, range(400))
                         if split_of(prompt_hash(text), set()) == split] for split in SPLITS}  # fmt: skip
        self.prompts = {split: texts[split][:4] for split in SPLITS}
        prompts.save_prompt_set(db, "mine", self.prompts["train"], [HELD_OUT])
        self._say_all()

    def draw(self, name: str, prompt: str, count: int = 4) -> None:
        start = 4 * len(self.groups)
        self.groups[name] = drawn(self.db, self.base, prompt, range(start, start + count))

    def image(self, name: str, place: int) -> str:
        return self.groups[name].images[place].image.id

    def say(self, who: int, name: str, kind: RatingKind, image: int | None = None, **more: Any) -> None:
        self._clicks += 1
        shown = None if image is None else self.image(name, image)
        group_id = self.groups[name].group.id
        key = f"click-{self._clicks}"
        ratings.rate(self.db, RatingInput(key, self.people[who], group_id, kind, shown, **more))

    def pair(self, who: int, name: str, left: int, right: int, outcome: str) -> None:
        payload = {"left": self.image(name, left), "right": self.image(name, right), "outcome": outcome}
        self.say(who, name, "pair", payload=payload, lead_ms=1500)

    def _say_all(self) -> None:
        train, validation, test = (self.prompts[split] for split in SPLITS)
        self.draw("best", train[0])
        self.say(0, "best", "best", 1, payload={"worst": self.image("best", 3)}, lead_ms=900)
        self.say(1, "best", "best", 2)
        self.draw("pairs", train[1])
        self.pair(0, "pairs", 1, 0, "left")
        self.pair(0, "pairs", 2, 3, "tie")
        self.pair(1, "pairs", 0, 1, "left")
        self.pair(1, "pairs", 1, 0, "left")  # changed their mind: the earlier one is superseded
        self.draw("rank", validation[0])
        order = [
            [self.image("rank", 2)],
            [self.image("rank", 0), self.image("rank", 1)],
            [self.image("rank", 3)],
        ]
        self.say(0, "rank", "rank", payload={"order": order}, lead_ms=4000)
        self.draw("stars", test[0])
        for place, stars in enumerate((5, 3, 3, 1)):
            self.say(1, "stars", "stars", place, value=stars)
        self.draw("held out", HELD_OUT)
        for who in (0, 1):
            order = [[self.image("held out", place)] for place in ((3, 1, 2, 0), (3, 1, 0, 2))[who]]
            self.say(who, "held out", "rank", payload={"order": order})
        self._say_what_makes_no_pair(train, test)

    def _say_what_makes_no_pair(self, train: list[str], test: list[str]) -> None:
        self.draw("no pairs", train[2], 2)
        self.say(0, "no pairs", "flags", 0, payload={"flags": ["broken"], "note": "Ann was here"})
        self.say(1, "no pairs", "best", 0)
        self.say(1, "no pairs", "skip")
        self.say(2, "no pairs", "best", 1)
        ratings.undo(self.db, self.people[2], "undo-1")
        self.say(3, "no pairs", "best", 0)
        exclusion.exclude(self.db, self.people[3], "answers at random")
        self.draw("files gone", test[1], 2)
        self.say(0, "files gone", "best", 0)
        blobs.path_of(self.db.home, self.groups["files gone"].images[1].image.sha256).unlink()


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def opinions_in(home: Path) -> Iterator[Opinions]:
    """The studio in a new data folder, on SQLite whatever the other tests use."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DATABASE_URL", raising=False)
        db = open_database(ready(home))
    try:
        yield Opinions(db)
    finally:
        db.close()

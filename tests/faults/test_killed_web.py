"""The web is killed while annotators vote: each vote that a browser was told is saved, is."""

from __future__ import annotations

import random
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select, text

from storage import checkpoints
from storage.engine import Database, open_database
from storage.models import RatingEvent
from tests.runs.helpers import wait_for
from tests.served import served
from tests.storage.records import finished_group

ANNOTATORS = 8
LIVES = 3
VOTES = 40
"""In each life, before the kill."""


@dataclass
class Room:
    """Annotators who vote for a random image as fast as they can, until the web has gone."""

    url: str
    targets: list[tuple[str, list[str]]]
    acknowledged: list[str] = field(default_factory=list)

    def annotate(self, seed: int) -> None:
        chance = random.Random(seed)
        with httpx.Client(base_url=self.url, timeout=60) as client:
            while True:
                group, images = chance.choice(self.targets)
                key = uuid.uuid4().hex
                call = {
                    "data": [group, key, chance.choice(images), {}, False, None, None, None],
                    "session_hash": f"annotator-{seed}",
                }
                try:
                    answer = client.post("/gradio_api/run/rate", json=call)
                except httpx.TransportError:
                    return
                assert answer.status_code == httpx.codes.OK, answer.text
                assert isinstance(answer.json()["data"][0], dict)
                self.acknowledged.append(key)


def make_targets(db: Database, number: int) -> list[tuple[str, list[str]]]:
    base = checkpoints.register_base(db, name="starter", source="x", family="sdxl")
    views = [finished_group(db, base, num_images=2) for _ in range(number)]
    return [(view.group.id, [one.image.id for one in view.images]) for view in views]


def one_life(home: Path, log: Path, targets: list[tuple[str, list[str]]], chance: random.Random) -> list[str]:
    """The keys that the web acknowledged before it was killed in the middle of whatever it did."""
    with served(home, log) as web:
        room = Room(web.url, targets)
        annotators = [
            threading.Thread(target=room.annotate, args=(chance.getrandbits(32),)) for _ in range(ANNOTATORS)
        ]
        for annotator in annotators:
            annotator.start()
        wait_for(lambda: len(room.acknowledged) >= VOTES, what="votes")
        time.sleep(chance.uniform(0, 0.1))
        web.process.kill()
        for annotator in annotators:
            annotator.join()
    return room.acknowledged


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_vote_that_was_acknowledged_survives_a_kill_of_the_web(tmp_path: Path) -> None:
    home, chance = tmp_path / "home", random.Random(0)
    db = open_database(home)
    targets = make_targets(db, 20)
    acknowledged: list[str] = []
    for life in range(LIVES):
        acknowledged += one_life(home, tmp_path / f"web-{life}.log", targets, chance)
    with db.read() as session:
        kept = [key.partition(":")[0] for key in session.scalars(select(RatingEvent.client_key))]
        assert session.scalar(text("PRAGMA integrity_check")) == "ok"
    db.close()
    assert len(acknowledged) >= LIVES * VOTES
    assert set(acknowledged) <= set(kept)
    assert len(kept) == len(set(kept))
    assert len(kept) - len(acknowledged) <= LIVES * ANNOTATORS  # at most the one that the kill cut off

"""A disk that fills up again and again while people rate: what was acknowledged stays, without a restart."""

from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path

import pytest
from sqlalchemy import text

from storage import blobs, checkpoints, ratings
from storage.backup import back_up
from storage.copies import verified
from storage.engine import Database, open_database
from storage.errors import NotSavedError
from storage.quotas import check_images
from storage.ratings import RatingInput
from tests.faults.test_full_disk import disk, fill, refused
from tests.storage.records import finished_group, noise_png

__all__ = ["disk"]
_BACKED_UP = (0, 5, 10)
"""After these fill-ups a backup is made as well."""
_MOST = 2_000
"""Votes of one fill-up: the last room takes a few dozen."""


def test_five_fill_ups_lose_no_acknowledged_vote_and_need_no_restart(disk: Path) -> None:
    assert fill_ups(disk, 5) >= 30


def fill_ups(disk: Path, times: int) -> int:
    """Number of votes that were acknowledged, all of which are there; every refusal is a sentence."""
    db = open_database(disk / "home")
    base = checkpoints.register_base(db, name="starter", source="x", family="sdxl")
    acknowledged: list[str] = []

    def vote() -> None:
        key = f"vote-{len(acknowledged)}"
        image = group.images[0].image.id
        ratings.submit(
            db, "local", group.group.id, [RatingInput(key, "local", group.group.id, "best", image)]
        )
        acknowledged.append(key)

    def vote_until_full() -> None:
        for _ in range(_MOST):
            vote()

    chance = random.Random(0)
    for number in range(times):
        group = finished_group(db, base)
        for _ in range(5):
            vote()
        filler = fill(disk)
        os.truncate(filler, filler.stat().st_size - chance.randrange(150_000))
        refused(lambda: check_images(db, "local", 1))  # before any vote is
        refused(vote_until_full)
        with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(1 << 12)):
                pass
        refused(vote)
        refused(lambda: blobs.put_png(db.home, noise_png(128)))
        _no_backup(db)
        assert _keys(db) == acknowledged
        filler.unlink()
        vote()  # the very key that was refused
        check_images(db, "local", 1)
        if number in _BACKED_UP:
            made = back_up(db)
            assert made is not None
            assert verified(made.path).ratings == len(acknowledged)
            made.path.unlink()  # a disk of twelve megabytes
    with db.read() as session:
        assert session.scalar(text("PRAGMA integrity_check")) == "ok"
    db.close()
    return len(acknowledged)


def _no_backup(db: Database) -> None:
    before = list((db.home / "backups").glob("*"))
    with pytest.raises(NotSavedError, match=r"No backup was made .*: free some space, then try again"):
        back_up(db)
    assert list((db.home / "backups").glob("*")) == before


def _keys(db: Database) -> list[str]:
    with db.read() as session:
        return list(session.scalars(text("SELECT client_key FROM rating_event ORDER BY seq")))

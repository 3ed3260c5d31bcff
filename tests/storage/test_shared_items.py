"""Agreement with others is told when enough was judged by both, and counts what can be compared."""

from __future__ import annotations

import pytest

from storage import ratings, shared_items
from storage.engine import Database
from storage.models import Checkpoint, User
from storage.ratings import RatingInput
from storage.shared_items import Shared
from tests.storage.records import finished_group


def test_a_share_is_told_of_enough_groups_only(
    db: Database, base: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    with db.write() as session:
        session.add(User(id="ann", name="Ann", role="annotator"))
    monkeypatch.setattr(shared_items, "MIN_SHARED", 4)
    for number in range(4):
        assert shared_items.with_others(db, "local") == Shared(None, number)
        view = finished_group(db, base)
        for who, place in (("local", 0), ("ann", 0 if number else 1)):
            key, image = f"{who}/{number}", view.images[place].image.id
            one = RatingInput(key, who, view.group.id, "best", image, lead_ms=30_000)
            ratings.submit(db, who, view.group.id, [one])
    assert shared_items.with_others(db, "local") == Shared(0.75, 4)
    assert shared_items.with_others(db, "ann") == Shared(0.75, 4)
    ratings.undo(db, "ann", "undo")
    assert shared_items.with_others(db, "local").items == 3
    assert shared_items.seconds_of_last(db, "local", 3) == 90


def test_somebody_who_was_away_did_not_look_all_that_time(db: Database, base: Checkpoint) -> None:
    view = finished_group(db, base)
    one = RatingInput("a", "local", view.group.id, "best", view.images[0].image.id, lead_ms=7_200_000)
    ratings.submit(db, "local", view.group.id, [one])
    assert shared_items.seconds_of_last(db, "local", 20) == 300

"""Groups that people judged, with what each of them says."""

from __future__ import annotations

from storage.engine import Database
from storage.models import Checkpoint
from storage.rated import rated_groups
from storage.ratings import RatingInput, rate, undo
from tests.storage.records import finished_group
from tests.storage.test_ratings import ann, best, skip, stars

__all__ = ["ann"]


def test_rated_groups_come_with_the_last_rated_first_and_without_what_was_taken_back(
    db: Database, base: Checkpoint
) -> None:
    views = [finished_group(db, base) for _ in range(4)]
    rate(db, stars(views[2], 0, 4, "a"))
    rate(db, best(views[0], 1, "b"))
    rate(db, skip(views[1], "c"))
    rate(db, stars(views[3], 0, 2, "d"))
    assert undo(db, "local", "e") is not None
    found = rated_groups(db, 10)
    assert [view.group.id for view in found] == [views[0].group.id, views[2].group.id]
    assert [said.best for said in found[0].said] == [views[0].images[1].image.id]


def test_each_annotator_speaks_for_themselves(db: Database, base: Checkpoint, ann: str) -> None:
    view = finished_group(db, base)
    first, second = view.images[0].image.id, view.images[1].image.id
    rate(db, stars(view, 0, 3, "a"))
    rate(db, stars(view, 1, 2, "b", ann))
    ranked = {"order": [[second], [first]]}
    rate(db, RatingInput("c", "local", view.group.id, "rank", payload=ranked))
    (found,) = rated_groups(db, 10)
    assert [(said.stars, said.order) for said in found.said] == [
        ({first: 3}, [[second], [first]]), ({second: 2}, [])
    ]  # fmt: skip

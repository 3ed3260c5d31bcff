"""Which side somebody chooses is counted over all pairs, blind ones too; ties and what was undone are not."""

from __future__ import annotations

from storage import blind, conduct, ratings, users
from storage.engine import Database
from storage.groups import GroupView
from storage.models import Checkpoint
from storage.ratings import RatingInput
from tests.storage.records import finished_group
from tests.storage.test_blind import draw, make


def pair(db: Database, view: GroupView, outcome: str, key: str, flipped: bool = False) -> None:
    ids = [one.image.id for one in view.images][:: -1 if flipped else 1]
    said = {"left": ids[0], "right": ids[1], "outcome": outcome}
    ratings.rate(db, RatingInput(key, "local", view.group.id, "pair", payload=said, lead_ms=1000))


def test_left_ones_are_counted_among_those_that_decided(db: Database, base: Checkpoint) -> None:
    for number, outcome in enumerate(("left", "left", "right", "tie", "bad")):
        pair(db, finished_group(db, base), outcome, f"key {number}")
    assert conduct.sides(db) == {"local": (2, 3)}


def test_the_last_word_on_two_images_counts_whichever_was_left(db: Database, group: GroupView) -> None:
    pair(db, group, "left", "one")
    pair(db, group, "right", "two", flipped=True)
    assert conduct.sides(db) == {"local": (0, 1)}


def test_what_was_undone_was_not_chosen(db: Database, group: GroupView) -> None:
    pair(db, group, "left", "one")
    ratings.undo(db, "local", "undo")
    assert conduct.sides(db) == {}


def test_blind_votes_count_by_the_side_that_was_seen_before_the_reveal_too(
    db: Database, base: Checkpoint
) -> None:
    with db.write() as session:
        session.add(Checkpoint(id="tuned", base_model_id=base.base_model_id, name="t", path="p", update=1))
    for checkpoint_id in (base.id, "tuned"):
        draw(db, checkpoint_id, "red hair", [7, 8])
    test = make(db, [base.id, "tuned"], ("red hair",))
    ann = users.add_user(db, "Ann", "annotator").id
    for number, answer in enumerate(("left", "left")):
        shown = blind.next_pair(db, test.id, ann)
        assert shown is not None
        blind.vote(db, client_key=f"{number}", pair_id=shown.pair_id, annotator_id=ann, answer=answer)  # type: ignore[arg-type]
    assert conduct.sides(db) == {ann: (2, 2)}
    blind.undo(db, client_key="undo", test_id=test.id, annotator_id=ann)
    assert conduct.sides(db) == {ann: (1, 1)}


def test_a_pace_is_ones_own_else_everybodys_else_unknown(db: Database, base: Checkpoint) -> None:
    ann = users.add_user(db, "Ann", "annotator").id
    assert conduct.pace(db, ann) is None
    for number, lead in enumerate((1000, 2000, 9000)):
        view = finished_group(db, base)
        best = view.images[0].image.id
        ratings.rate(db, RatingInput(f"{number}", "local", view.group.id, "best", best, lead_ms=lead))
    assert conduct.pace(db, "local") == 2.0 == conduct.pace(db, ann)

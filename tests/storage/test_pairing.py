"""The two images that are compared are those of which least is known."""

from __future__ import annotations

from storage import checks, pairing, ratings
from storage.engine import Database
from storage.models import Checkpoint, User
from storage.ratings import RatingInput
from tests.storage.records import finished_group


def test_the_pair_that_was_compared_least_comes_next_and_who_is_asked_again_sees_the_same(
    db: Database, base: Checkpoint
) -> None:
    view = finished_group(db, base, num_images=3)
    images, seen = [one.image.id for one in view.images], []
    with db.write() as session:
        session.add_all(User(id=f"u{number}", name=f"u{number}", role="annotator") for number in range(3))
    for number in range(3):
        who = f"u{number}"
        pair = pairing.pair_of(db, view.group.id, images, who)
        assert pair is not None and pair == pairing.pair_of(db, view.group.id, images, who)
        said = {"left": pair[0], "right": pair[1], "outcome": "tie"}
        ratings.submit(db, who, view.group.id, [RatingInput(who, who, view.group.id, "pair", payload=said)])
        seen.append(frozenset(pair))
        assert pairing.pair_of(db, view.group.id, images, who) == pair
    assert len(set(seen)) == 3


def test_both_sides_are_given_to_some_and_a_single_image_is_no_pair(db: Database, base: Checkpoint) -> None:
    view = finished_group(db, base, num_images=2)
    images = [one.image.id for one in view.images]
    sides = {pairing.pair_of(db, view.group.id, images, f"somebody {number}") for number in range(30)}
    assert sides == {(images[0], images[1]), (images[1], images[0])}
    assert pairing.pair_of(db, view.group.id, images[:1], "local") is None


def test_of_a_known_answer_one_of_the_two_is_accepted(db: Database, base: Checkpoint) -> None:
    view = finished_group(db, base, num_images=4)
    images = [one.image.id for one in view.images]
    checks.add_check(db, view.group.id, images[:2])
    for number in range(20):
        pair = pairing.pair_of(db, view.group.id, images, f"somebody {number}")
        assert pair is not None and len(set(pair) & set(images[:2])) == 1

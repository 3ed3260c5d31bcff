"""Groups whose answer is known: what is said of them is kept, counted by itself, and never a vote."""

from __future__ import annotations

from typing import Any

import pytest

from storage import checks, judged, rated, ratings, snapshots
from storage.checks import Passes
from storage.engine import Database
from storage.groups import GroupView
from storage.models import Checkpoint, RatingKind, User
from storage.rating_kinds import RatingInput
from storage.ratings_current import RatingsView
from tests.storage.records import finished_group


def said(
    db: Database, view: GroupView, key: str, kind: RatingKind = "best", who: str = "local", **more: Any
) -> None:
    """One answer to a group, as the Rate page gives it."""
    ratings.submit(db, who, view.group.id, [RatingInput(key, who, view.group.id, kind, **more)])


@pytest.fixture
def gold(db: Database, base: Checkpoint) -> GroupView:
    """Three images of which the first is the right one."""
    view = finished_group(db, base, num_images=3)
    checks.add_check(db, view.group.id, [view.images[0].image.id], why="the hair is red")
    with db.write() as session:
        session.add(User(id="ann", name="Ann", role="annotator"))
    return view


def ids(view: GroupView) -> list[str]:
    return [one.image.id for one in view.images]


def test_what_is_said_of_a_check_is_kept_and_is_no_vote_anywhere(db: Database, gold: GroupView) -> None:
    said(db, gold, "a", image_id=ids(gold)[1])
    assert snapshots.standing_votes(db) == []
    assert judged.said_votes(db) == []
    assert rated.rated_groups(db, 10) == []
    assert ratings.current_ratings(db, gold.group.id).says_nothing()
    assert judged.unrated_groups(db, 10) == []
    assert checks.passes(db) == {"local": Passes(0, 1)}


def test_an_answer_to_a_check_can_be_taken_back_and_given_again(db: Database, gold: GroupView) -> None:
    said(db, gold, "a", image_id=ids(gold)[1])
    ratings.undo(db, "local", "u")
    assert checks.passes(db) == {}
    said(db, gold, "b", image_id=ids(gold)[0])
    assert checks.passes(db) == {"local": Passes(1, 1)}


@pytest.mark.parametrize(
    ("kind", "more", "is_right"),
    [
        ("best", {"image_id": 0}, True),
        ("best", {"image_id": 2}, False),
        ("pair", {"payload": {"left": 0, "right": 1, "outcome": "left"}}, True),
        ("pair", {"payload": {"left": 1, "right": 0, "outcome": "right"}}, True),
        ("pair", {"payload": {"left": 0, "right": 1, "outcome": "tie"}}, False),
        ("rank", {"payload": {"order": [[0], [1, 2]]}}, True),
        ("rank", {"payload": {"order": [[0, 1], [2]]}}, False),
        ("rank", {"payload": {"order": [[0, 1, 2]], "none_good": True}}, False),
        ("stars", {"image_id": 0, "value": 2}, True),
        ("stars", {"image_id": 1, "value": 5}, False),
    ],
)
def test_an_answer_is_right_when_all_it_puts_first_is_accepted(
    db: Database, gold: GroupView, kind: RatingKind, more: dict[str, Any], is_right: bool
) -> None:
    said(db, gold, "a", kind, **_named(more, ids(gold)))
    assert checks.passes(db) == {"local": Passes(int(is_right), 1)}


def _named(said: Any, images: list[str]) -> Any:
    """The same with ids of images in the place of their numbers, except for stars."""
    if isinstance(said, dict):
        return {key: one if key == "value" else _named(one, images) for key, one in said.items()}
    if isinstance(said, list):
        return [_named(one, images) for one in said]
    return images[said] if type(said) is int else said


def test_a_skip_is_no_answer_and_practice_is_not_counted(db: Database, gold: GroupView) -> None:
    said(db, gold, "a", "skip", payload={"reason": "cannot"})
    assert checks.passes(db) == {}
    checks.add_check(db, gold.group.id, ids(gold)[:1], is_practice=True)
    said(db, gold, "b", who="ann", image_id=ids(gold)[0])
    assert checks.passes(db) == {}
    assert [check.item.group_id for check in checks.list_checks(db, is_practice=True)] == [gold.group.id]
    assert checks.list_checks(db, is_practice=False) == []


def test_practice_is_done_once_it_is_answered_by_each_person(db: Database, gold: GroupView) -> None:
    checks.add_check(db, gold.group.id, ids(gold)[:1], is_practice=True)
    said(db, gold, "a", image_id=ids(gold)[2])
    assert (checks.to_practise(db, "local"), checks.to_practise(db, "ann")) == ([], [gold.group.id])


def test_votes_from_before_a_group_became_a_check_still_stand(db: Database, base: Checkpoint) -> None:
    view = finished_group(db, base, num_images=3)
    said(db, view, "a", image_id=ids(view)[2])
    checks.add_check(db, view.group.id, ids(view)[:1])
    assert [vote.client_key for vote in snapshots.standing_votes(db)] == ["a"]
    assert checks.passes(db) == {}


@pytest.mark.parametrize(
    ("accepted", "sentence"), [([], "at least one"), ([0, 1, 2], "not all"), (["x"], "not in")]
)
def test_an_answer_that_cannot_be_right_or_wrong_is_refused(
    db: Database, gold: GroupView, accepted: list[Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        checks.add_check(db, gold.group.id, _named(accepted, ids(gold)))
    assert checks.list_checks(db)[0].item.accepted == ids(gold)[:1]


def test_a_check_that_is_removed_is_a_group_like_any_other(db: Database, gold: GroupView) -> None:
    said(db, gold, "a", image_id=ids(gold)[0])
    assert ratings.next_task(db, "local") is None
    checks.remove_check(db, gold.group.id)
    with pytest.raises(LookupError, match="no check item"):
        checks.remove_check(db, gold.group.id)
    task = ratings.next_task(db, "local")
    assert task is not None and task.group.id == gold.group.id
    said(db, gold, "b", image_id=ids(gold)[1])
    assert [vote.client_key for vote in snapshots.standing_votes(db)] == ["b"]


def test_who_answers_the_same_way_twice_is_consistent(db: Database, base: Checkpoint) -> None:
    a, b = "a", "b"
    assert checks.says_the_same(_best(a), _best(a)) is True
    assert checks.says_the_same(_best(a), _best(b)) is False
    assert checks.says_the_same(_pair(a, b, "left"), _pair(b, a, "right")) is True
    assert checks.says_the_same(_pair(a, b, "left"), _pair(b, a, "tie")) is False
    assert checks.says_the_same(_pair(a, b, "left"), _best(a)) is None
    assert checks.repeat_consistency(db) == {}


def _best(image: str) -> RatingsView:
    return RatingsView(best=image)


def _pair(left: str, right: str, outcome: str) -> RatingsView:
    return RatingsView(pairs={(left, right): outcome})

"""Who is offered what: a group comes to its raters and nobody else, and now and then its answer is known."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from storage import assignments, checks, offers, rating_rules, ratings
from storage.engine import Database
from storage.groups import GroupView
from storage.models import Checkpoint, ImageGroup, User
from storage.rating_rules import GOLD_SHARE, GUIDELINES, OFFERED_MODES, OVERLAP, REPEAT_SHARE
from storage.ratings import RatingInput, next_task, progress, submit
from storage.types import utc_now
from tests.storage.records import finished_group


@pytest.fixture
def people(db: Database) -> list[str]:
    """Four annotators."""
    names = ["ann", "ben", "cai", "dee"]
    with db.write() as session:
        session.add_all(User(id=name, name=name, role="annotator") for name in names)
    return names


def vote(db: Database, view: GroupView, who: str) -> GroupView | None:
    said = RatingInput(f"{view.group.id[-8:]}/{who}", who, view.group.id, "best", view.images[0].image.id)
    return submit(db, who, view.group.id, [said])


def raters(db: Database, view: GroupView, people: list[str]) -> list[str]:
    """Who is offered the group, one after the other, each voting."""
    offered = []
    for who in people:
        task = next_task(db, who)
        if task is not None and task.group.id == view.group.id:
            offered.append(who)
            vote(db, view, who)
    return offered


def test_a_group_comes_to_as_many_people_as_the_rule_says_and_to_nobody_else(
    db: Database, base: Checkpoint, people: list[str]
) -> None:
    rating_rules.put_rule(db, OVERLAP, {"share": 0, "raters": 3})
    assert raters(db, finished_group(db, base), people) == people[:1]
    rating_rules.put_rule(db, OVERLAP, {"share": 1, "raters": 3})
    assert raters(db, finished_group(db, base), people) == people[:3]


def test_what_a_group_says_of_its_own_raters_goes_before_the_rule(
    db: Database, base: Checkpoint, people: list[str]
) -> None:
    view = finished_group(db, base)
    with db.write() as session:
        session.execute(update(ImageGroup).where(ImageGroup.id == view.group.id).values(overlap=2))
    assert raters(db, view, people) == people[:2]


def test_a_skip_leaves_the_place_of_a_rater_open(db: Database, base: Checkpoint, people: list[str]) -> None:
    rating_rules.put_rule(db, OVERLAP, {"share": 0, "raters": 1})
    view = finished_group(db, base)
    assert next_task(db, "ann") is not None
    submit(db, "ann", view.group.id, [RatingInput("skip", "ann", view.group.id, "skip")])
    assert raters(db, view, people) == ["ben"]


def test_about_the_share_of_the_groups_wants_several_people_and_it_is_always_the_same(
    db: Database, base: Checkpoint
) -> None:
    rules = rating_rules.Rules(share=0.3, raters=4)
    ids = [f"01a219b6-9be1-7f51-8968-04d6f28e{number:04x}" for number in range(0, 65536, 64)]
    wanted = [rating_rules.wants(ImageGroup(id=one, overlap=None), rules) for one in ids]
    assert set(wanted) == {1, 4}
    assert abs(wanted.count(4) / len(wanted) - 0.3) < 0.01
    views = [finished_group(db, base) for _ in range(8)]
    with db.read() as session:
        for view in views:
            column = rating_rules.raters_wanted(rules)
            found = session.scalar(select(column).where(ImageGroup.id == view.group.id))
            assert found == rating_rules.wants(view.group, rules)


def test_what_others_hold_is_counted_with_the_time_until_it_is_free(
    db: Database, base: Checkpoint, people: list[str]
) -> None:
    rating_rules.put_rule(db, OVERLAP, {"share": 0, "raters": 1})
    finished_group(db, base)
    assert ratings.waiting(db, "ben").count == 0
    assert next_task(db, "ann") is not None
    assert next_task(db, "ben") is None
    found = ratings.waiting(db, "ben")
    assert found.count == 1 and found.until is not None
    assert timedelta(minutes=9) < found.until - utc_now() <= timedelta(minutes=10)
    assert progress(db, "ben").open == 0
    with db.write() as session:
        assignments.expire(session, utc_now() + timedelta(hours=1))
    assert next_task(db, "ben") is not None


def test_whoever_stays_at_a_group_keeps_it(db: Database, base: Checkpoint, people: list[str]) -> None:
    view = finished_group(db, base)
    next_task(db, "ann", lease_seconds=1)
    ratings.stay(db, "ann", view.group.id)
    with db.write() as session:
        assignments.expire(session, utc_now() + timedelta(minutes=5))
    held = next_task(db, "ann")
    assert held is not None and held.group.id == view.group.id


def test_gold_comes_at_its_share_looks_like_any_task_and_comes_once_to_each(
    db: Database, base: Checkpoint
) -> None:
    gold = finished_group(db, base)
    checks.add_check(db, gold.group.id, [gold.images[1].image.id])
    rating_rules.put_rule(db, GOLD_SHARE, 0.5)
    made = [finished_group(db, base) for _ in range(12)]
    seen = []
    task = next_task(db, "local")
    while task is not None:
        seen.append(task.group.id)
        task = vote(db, task, "local")
    assert seen.count(gold.group.id) == 1
    assert sorted(seen) == sorted([gold.group.id, *(view.group.id for view in made)])
    assert checks.passes(db) == {"local": (0, 1)}
    assert progress(db, "local").rated == 12 and progress(db, "local").answered == 13
    rating_rules.put_rule(db, GOLD_SHARE, 0)
    other = finished_group(db, base)
    checks.add_check(db, other.group.id, [other.images[1].image.id])
    assert next_task(db, "local") is None


def test_without_a_share_of_repeats_nothing_comes_twice(
    db: Database, base: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offers, "REPEAT_AFTER", 2)
    monkeypatch.setattr(offers, "_FRESH", 1)
    for share, comes_twice in ((0.0, False), (0.5, True)):
        rating_rules.put_rule(db, REPEAT_SHARE, share)
        views = [finished_group(db, base) for _ in range(6)]
        seen = []
        task = next_task(db, "local")
        while task is not None:
            seen.append(task.group.id)
            key = f"{share}/{len(seen)}"
            one = RatingInput(key, "local", task.group.id, "best", task.images[0].image.id)
            task = submit(db, "local", task.group.id, [one])
        assert (len(seen) > len(views)) == comes_twice


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        (OVERLAP, {"share": 2, "raters": 3}, "from 0 to 1"),
        (OVERLAP, {"share": 0.1, "raters": 0}, "1 to 100 people"),
        (OVERLAP, 3, "expected"),
        (GOLD_SHARE, 0.9, "most tasks are votes"),
        (REPEAT_SHARE, "often", "from 0 to 1"),
        (OFFERED_MODES, [], "at least one"),
        (OFFERED_MODES, ["guess"], "at least one"),
        (GUIDELINES, "x" * 9000, "shorten"),
        ("rating.else", 1, "expected one of"),
    ],
)
def test_a_rule_that_cannot_hold_is_refused_in_words(
    db: Database, key: str, value: object, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        rating_rules.put_rule(db, key, value)
    assert rating_rules.get_rules(db) == rating_rules.Rules()


def test_undo_reaches_twenty_acts_back_and_no_further(db: Database, base: Checkpoint) -> None:
    views = [finished_group(db, base, num_images=1) for _ in range(23)]
    for view in views:
        vote(db, view, "local")
    undone = [ratings.undo(db, "local", f"undo {number}") for number in range(23)]
    assert [event is not None for event in undone] == [True] * 20 + [False] * 3


def test_what_was_said_in_another_sitting_is_not_taken_back(
    db: Database, base: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    vote(db, finished_group(db, base), "local")
    monkeypatch.setattr(ratings, "UNDO_WITHIN", timedelta(0))
    assert ratings.undo(db, "local", "undo") is None

"""Votes that do not count are kept, are in nothing that is learned, and count again when they are let in."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from storage import audit, blind, exclusion, ratings, snapshots, users
from storage.engine import Database
from storage.groups import GroupView
from storage.models import Checkpoint, RatingEvent
from storage.rated import rated_groups
from storage.ratings import RatingInput
from tests.storage.records import finished_group
from tests.storage.test_blind import draw, judge_all, make


@pytest.fixture
def ann(db: Database) -> str:
    return users.add_user(db, "Ann", "annotator").id


def choose(db: Database, view: GroupView, key: str, who: str = "local") -> None:
    ratings.rate(db, RatingInput(key, who, view.group.id, "best", view.images[0].image.id))


def keys(db: Database) -> list[str]:
    return [vote.client_key for vote in snapshots.standing_votes(db)]


def test_a_snapshot_to_learn_from_leaves_out_who_is_excluded_and_has_them_again_when_they_are_let_in(
    db: Database, group: GroupView, ann: str
) -> None:
    choose(db, group, "mine")
    choose(db, group, "hers", ann)
    whole = snapshots.take_snapshot(db, snapshots.standing_votes(db))
    exclusion.exclude(db, ann, "picks the first image every time")
    assert keys(db) == ["mine"]
    without = snapshots.take_snapshot(db, snapshots.standing_votes(db))
    assert [vote.annotator_id for vote in snapshots.votes_of(db, without.id)] == ["local"]
    exclusion.include(db, ann)
    assert snapshots.take_snapshot(db, snapshots.standing_votes(db)).id == whole.id


def test_what_they_said_is_kept_and_what_was_learned_before_still_names_it(
    db: Database, group: GroupView, ann: str
) -> None:
    choose(db, group, "hers", ann)
    frozen = snapshots.take_snapshot(db, snapshots.standing_votes(db))
    exclusion.exclude(db, ann, "practice only")
    with db.read() as session:
        assert session.scalars(select(RatingEvent.client_key)).all() == ["hers"]
    assert [vote.client_key for vote in snapshots.votes_of(db, frozen.id)] == ["hers"]
    assert ratings.current_ratings(db, group.group.id, ann).best == group.images[0].image.id


def test_they_may_go_on_and_what_they_say_meanwhile_counts_once_they_are_let_in(
    db: Database, group: GroupView, ann: str
) -> None:
    exclusion.exclude(db, ann, "practice only")
    choose(db, group, "meanwhile", ann)
    assert keys(db) == [] and rated_groups(db, 10) == []
    exclusion.include(db, ann)
    assert keys(db) == ["meanwhile"]
    assert [one.group.id for one in rated_groups(db, 10)] == [group.group.id]


def test_a_group_that_others_rated_too_is_shown_by_what_they_say(
    db: Database, group: GroupView, ann: str
) -> None:
    choose(db, group, "mine")
    choose(db, group, "hers", ann)
    exclusion.exclude(db, ann, "practice only")
    (seen,) = rated_groups(db, 10)
    assert len(seen.said) == 1


def test_blind_votes_of_who_is_excluded_are_not_counted(db: Database, base: Checkpoint, ann: str) -> None:
    with db.write() as session:
        tuned = Checkpoint(id="tuned", base_model_id=base.base_model_id, name="tuned", path="p", update=1)
        session.add(tuned)
    for checkpoint_id in (base.id, "tuned"):
        draw(db, checkpoint_id, "red hair", [7, 8])
    test = make(db, [base.id, "tuned"], ("red hair",))
    each = judge_all(db, test)
    assert judge_all(db, test, ann) == each > 0
    assert len(blind.judgements(db, [test.id])) == 2 * each
    exclusion.exclude(db, ann, "knows whose they are")
    assert {one.annotator_id for one in blind.judgements(db, [test.id])} == {"local"}


def test_the_stamp_of_the_votes_changes_with_who_counts(db: Database, group: GroupView, ann: str) -> None:
    choose(db, group, "hers", ann)
    before = snapshots.stamp(db)
    exclusion.exclude(db, ann, "practice only")
    assert snapshots.stamp(db) != before
    exclusion.include(db, ann)
    assert snapshots.stamp(db) == before


def test_nobody_is_excluded_without_a_reason_that_they_are_told(db: Database, ann: str) -> None:
    for why in ("", "  \n ", "x" * 201):
        with pytest.raises(ValueError, match="the person is told it"):
            exclusion.exclude(db, ann, why)
    assert exclusion.exclusions(db) == {} and exclusion.last_changed(db) is None
    with pytest.raises(LookupError, match="no user"):
        exclusion.exclude(db, "nobody", "why not")


def test_who_excluded_whom_and_why_stands_in_the_log(db: Database, ann: str) -> None:
    boss = users.add_user(db, "Boss", "admin").id
    exclusion.exclude(db, ann, " picks   the first\nimage ", by=boss)
    made = exclusion.exclusions(db)[ann]
    assert (made.by, made.why) == (boss, "picks the first image")
    exclusion.include(db, ann, by=boss)
    exclusion.include(db, ann, by=boss)  # already: nothing happens, and nothing is noted
    acts = [(one.who, one.act, one.target) for one in audit.latest(db, 3)]
    assert acts[:2] == [("Boss", "user.include", ann), ("Boss", "user.exclude", ann)]
    assert acts[2][1] == "user.add"


def test_excluding_one_leaves_another_excluded(db: Database, group: GroupView, ann: str) -> None:
    bea = users.add_user(db, "Bea", "annotator").id
    other = finished_group(db, group.checkpoint)
    choose(db, group, "hers", ann)
    choose(db, other, "bea", bea)
    exclusion.exclude(db, ann, "practice")
    exclusion.exclude(db, bea, "practice")
    assert keys(db) == []
    exclusion.include(db, ann)
    assert keys(db) == ["hers"] and set(exclusion.exclusions(db)) == {bea}

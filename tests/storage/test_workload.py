"""What the rules ask for is what is left to rate, rule by rule."""

from __future__ import annotations

from storage import checks, ratings, users
from storage.engine import Database
from storage.groups import GroupView
from storage.models import Checkpoint
from storage.rating_rules import Rules
from storage.ratings import RatingInput
from storage.workload import Workload, workload
from tests.storage.records import finished_group

ALL_BY_THREE = Rules(share=1.0, raters=3)
ALL_BY_ONE = Rules(share=0.0, raters=3)


def choose(db: Database, view: GroupView, who: str = "local") -> None:
    said = RatingInput(f"{who[-8:]} {view.group.id}", who, view.group.id, "best", view.images[0].image.id)
    ratings.rate(db, said)


def test_a_group_wants_as_many_ratings_as_people_less_those_it_has(db: Database, base: Checkpoint) -> None:
    views = [finished_group(db, base) for _ in range(3)]
    choose(db, views[0])
    assert workload(db, ALL_BY_ONE) == Workload(2, 2)
    assert workload(db, ALL_BY_THREE) == Workload(3, 8)
    for name in ("Ann", "Bea", "Cid"):
        choose(db, views[0], users.add_user(db, name, "annotator").id)
    assert workload(db, ALL_BY_THREE) == Workload(2, 6)


def test_a_share_of_the_groups_lies_between_none_and_all(db: Database, base: Checkpoint) -> None:
    for _ in range(40):
        finished_group(db, base)
    found = workload(db, Rules(share=0.5, raters=3))
    assert found.groups == 40 and 40 < found.ratings < 120
    assert workload(db, ALL_BY_ONE).ratings == 40 and workload(db, ALL_BY_THREE).ratings == 120


def test_a_group_that_asks_for_people_of_its_own_gets_them_whatever_the_rules_say(
    db: Database, group: GroupView
) -> None:
    with db.write() as session:
        session.merge(group.group).overlap = 5
    assert workload(db, ALL_BY_ONE) == workload(db, ALL_BY_THREE) == Workload(1, 5)


def test_groups_to_compare_by_and_groups_with_a_known_answer_want_no_rating(
    db: Database, base: Checkpoint
) -> None:
    finished_group(db, base, kind="compare")
    gold = finished_group(db, base)
    checks.add_check(db, gold.group.id, [gold.images[0].image.id])
    assert workload(db, ALL_BY_THREE) == Workload(0, 0)

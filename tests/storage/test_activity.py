"""What a person did is counted in groups, and they were last seen when they last did anything."""

from __future__ import annotations

from datetime import timedelta

from storage import ratings, users
from storage.activity import Activity, activity
from storage.engine import Database
from storage.groups import GroupView
from storage.models import Assignment, Checkpoint
from storage.ratings import RatingInput
from storage.types import utc_now
from tests.storage.records import finished_group


def choose(db: Database, view: GroupView, who: str, kind: str = "best") -> None:
    image = view.images[0].image.id if kind == "best" else None
    key = f"{who[-12:]} {view.group.id} {kind}"
    ratings.submit(db, who, view.group.id, [RatingInput(key, who, view.group.id, kind, image)])  # type: ignore[arg-type]


def test_a_group_counts_once_for_each_who_rated_it_and_a_skip_is_no_rating(
    db: Database, base: Checkpoint
) -> None:
    views = [finished_group(db, base) for _ in range(3)]
    ann, bea = (users.add_user(db, name, "annotator").id for name in ("Ann", "Bea"))
    choose(db, views[0], ann)
    choose(db, views[1], ann)
    choose(db, views[2], ann, "skip")
    choose(db, views[0], bea)
    found = activity(db)
    assert (found[ann].rated, found[ann].rated_today, found[ann].skipped) == (2, 2, 1)
    assert (found[bea].rated, found[bea].skipped) == (1, 0)


def test_what_was_rated_yesterday_is_not_of_today(db: Database, group: GroupView) -> None:
    choose(db, group, "local")
    tomorrow = utc_now() + timedelta(days=1)
    assert (activity(db)["local"].rated_today, activity(db, tomorrow)["local"].rated_today) == (1, 0)
    assert activity(db, tomorrow)["local"].rated == 1


def test_a_second_answer_to_a_repeat_is_no_second_group(db: Database, group: GroupView) -> None:
    choose(db, group, "local")
    with db.write() as session:
        done = {"lease_until": utc_now(), "done_at": utc_now(), "outcome": "rated", "is_repeat": True}
        session.add(Assignment(group_id=group.group.id, annotator_id="local", **done))
    assert activity(db)["local"].rated == 1


def test_a_lease_counts_while_it_runs(db: Database, group: GroupView) -> None:
    assert ratings.next_task(db, "local", 60) is not None
    assert activity(db)["local"].leased == 1
    assert activity(db, utc_now() + timedelta(minutes=2)).get("local", Activity()).leased == 0


def test_somebody_is_seen_by_their_last_act_and_by_none_of_others(db: Database, group: GroupView) -> None:
    ann = users.add_user(db, "Ann", "annotator").id
    assert ann not in activity(db)
    before = utc_now()
    choose(db, group, ann)
    seen = activity(db)[ann].last_seen
    assert seen is not None and before <= seen <= utc_now()
    local = activity(db)["local"].last_seen
    assert local is not None and local < seen


def test_groups_that_a_run_draws_do_not_make_anybody_seen(db: Database, base: Checkpoint) -> None:
    finished_group(db, base, kind="rollout")
    assert activity(db) == {}

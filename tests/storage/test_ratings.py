"""Ratings are kept once, for ever, and can be taken back; groups go to annotators on lease."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DatabaseError

from storage import groups, rating_rules, ratings
from storage.engine import Database
from storage.groups import GroupView
from storage.models import Assignment, Checkpoint, RatingEvent, User
from storage.ratings import Progress, RatingInput, current_ratings, next_task, progress, rate, submit, undo
from storage.ratings_current import RatingsView
from storage.types import utc_now
from tests.storage.records import CONFIG, finished_group


@pytest.fixture
def ann(db: Database) -> str:
    with db.write() as session:
        session.add(User(id="ann", name="Ann", role="annotator"))
    return "ann"


def stars(group: GroupView, index: int, value: Any, key: str, who: str = "local") -> RatingInput:
    return RatingInput(key, who, group.group.id, "stars", group.images[index].image.id, value)


def best(group: GroupView, index: int, key: str, who: str = "local") -> RatingInput:
    return RatingInput(key, who, group.group.id, "best", group.images[index].image.id)


def skip(group: GroupView, key: str, who: str = "local") -> RatingInput:
    return RatingInput(key, who, group.group.id, "skip")


def events(db: Database) -> list[RatingEvent]:
    with db.read() as session:
        return list(session.scalars(select(RatingEvent).order_by(RatingEvent.seq)))


def expire_leases(db: Database) -> None:
    with db.write() as session:
        late = update(Assignment).where(Assignment.done_at.is_(None))
        session.execute(late.values(lease_until=utc_now() - timedelta(seconds=1)))


def test_the_same_key_is_kept_once_however_often_and_from_wherever_it_comes(
    db: Database, group: GroupView
) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: rate(db, stars(group, 0, 4, "click")).id, range(24)))
    assert len(set(answers)) == 1
    assert [event.value for event in events(db)] == [4]


def test_a_key_used_for_another_act_is_refused(db: Database, group: GroupView) -> None:
    rate(db, stars(group, 0, 4, "click"))
    for other in (stars(group, 0, 5, "click"), stars(group, 1, 4, "click"), skip(group, "click")):
        with pytest.raises(ValueError, match="make a new key for each click"):
            rate(db, other)
    with pytest.raises(ValueError, match="make a new key for each click"):
        undo(db, "local", "click")


def test_the_latest_rating_of_an_image_counts_and_the_earlier_one_stays_in_the_history(
    db: Database, group: GroupView
) -> None:
    first = rate(db, stars(group, 0, 2, "a"))
    second = rate(db, stars(group, 0, 5, "b"))
    assert current_ratings(db, group.group.id).stars == {group.images[0].image.id: 5}
    assert second.supersedes_id == first.id
    assert [event.value for event in events(db)] == [2, 5]


@pytest.mark.parametrize("value", [0, 6, -1, 2.5, "3", True, None, float("nan")])
def test_stars_are_whole_numbers_from_1_to_5(db: Database, group: GroupView, value: Any) -> None:
    with pytest.raises(ValueError, match="expected 1 to 5 stars"):
        rate(db, stars(group, 0, value, "a"))
    assert events(db) == []


def test_what_does_not_fit_is_refused_in_words(db: Database, base: Checkpoint, group: GroupView) -> None:
    other, image = finished_group(db, base), group.images[0].image.id
    waiting = groups.request_group(db, prompt="a", checkpoint_id=base.id, config=CONFIG, seeds=[1])
    wrong: list[tuple[RatingInput, type[Exception], str]] = [
        (stars(group, 0, 3, ""), ValueError, "key of 1 to 64"),
        (stars(group, 0, 3, "k" * 65), ValueError, "key of 1 to 64"),
        (
            RatingInput("a", "local", group.group.id, "undo", None),
            ValueError,
            "stars, best, pair, rank, flags or skip",
        ),
        (RatingInput("a", "local", group.group.id, "skip", image), ValueError, "needs no image"),
        (RatingInput("a", "local", group.group.id, "best"), ValueError, "needs an image"),
        (RatingInput("a", "local", group.group.id, "best", image, 3), ValueError, "expected no value"),
        (RatingInput("a", "local", other.group.id, "best", image), ValueError, "not in this group"),
        (RatingInput("a", "local", waiting.id, "skip"), ValueError, "only finished groups"),
        (RatingInput("a", "nobody", group.group.id, "skip"), LookupError, "no annotator"),
        (RatingInput("a", "local", "no-group", "skip"), LookupError, "no group"),
        (RatingInput("a", "local", group.group.id, "best", "no-image"), LookupError, "no image"),
        (RatingInput("nul\x00", "local", group.group.id, "skip"), ValueError, "NUL"),
    ]
    for rating, error, sentence in wrong:
        with pytest.raises(error, match=sentence):
            rate(db, rating)
    with pytest.raises(ValueError, match="others among them"):
        submit(db, "local", group.group.id, [skip(other, "a")])
    assert events(db) == []


def test_an_account_that_is_no_longer_active_cannot_rate(db: Database, group: GroupView, ann: str) -> None:
    with db.write() as session:
        session.execute(update(User).where(User.id == ann).values(active=False))
    with pytest.raises(ValueError, match="no longer active"):
        rate(db, skip(group, "a", ann))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE rating_event SET value = 6",
        "UPDATE rating_event SET kind = 'loved'",
        "UPDATE rating_event SET image_id = NULL",
        "UPDATE rating_event SET image_id = 'nothing'",
        "DELETE FROM image",
        "DELETE FROM image_group",
        'DELETE FROM "user"',
    ],
)
def test_the_database_itself_refuses_what_would_damage_ratings(
    db: Database, group: GroupView, change: str
) -> None:
    rate(db, stars(group, 0, 4, "a"))
    with pytest.raises(DatabaseError, match="constraint"):
        _execute(db, change)
    assert [event.value for event in events(db)] == [4]


def _execute(db: Database, statement: str) -> None:
    with db.write() as session:
        session.execute(text(statement))


def test_undo_takes_back_one_act_after_another_and_what_was_before_holds_again(
    db: Database, group: GroupView
) -> None:
    image = group.images[0].image.id
    rate(db, stars(group, 0, 2, "a"))
    rate(db, stars(group, 0, 5, "b"))
    rate(db, best(group, 1, "c"))
    first = undo(db, "local", "u1")
    assert first is not None
    again = undo(db, "local", "u1")
    assert again is not None
    assert again.id == first.id
    assert current_ratings(db, group.group.id) == RatingsView({image: 5})
    undo(db, "local", "u2")
    assert current_ratings(db, group.group.id) == RatingsView({image: 2})
    undo(db, "local", "u3")
    assert current_ratings(db, group.group.id) == RatingsView()
    assert undo(db, "local", "u4") is None
    assert len(events(db)) == 6


def test_undo_takes_back_a_submitted_group_as_a_whole_and_nobody_elses(
    db: Database, base: Checkpoint, group: GroupView, ann: str
) -> None:
    other = finished_group(db, base)
    submit(db, "local", other.group.id, [best(other, 0, "before")])
    submit(
        db, "local", group.group.id, [stars(group, 0, 5, "a"), stars(group, 1, 1, "b"), best(group, 0, "c")]
    )
    rate(db, stars(group, 1, 3, "d", ann))
    taken = undo(db, "local", "u")
    assert taken is not None
    assert taken.group_id == group.group.id
    assert current_ratings(db, group.group.id, "local") == RatingsView()
    assert current_ratings(db, group.group.id, ann).stars == {group.images[1].image.id: 3}
    assert current_ratings(db, other.group.id, "local").best == other.images[0].image.id
    task = next_task(db, "local")
    assert task is not None
    assert task.group.id == group.group.id


def test_a_skip_is_the_last_word_until_something_is_said(db: Database, group: GroupView) -> None:
    rate(db, skip(group, "a"))
    assert current_ratings(db, group.group.id).skipped
    assert progress(db, "local") == Progress(rated=0, skipped=1, open=0, rated_today=0)
    rate(db, stars(group, 0, 4, "b"))
    assert not current_ratings(db, group.group.id).skipped
    assert progress(db, "local") == Progress(rated=1, skipped=0, open=0, rated_today=1)


def test_submit_may_be_repeated_and_gives_the_same_next_group(
    db: Database, base: Checkpoint, group: GroupView
) -> None:
    finished_group(db, base, "second")
    task = next_task(db, "local")
    assert task is not None
    said = [stars(task, 0, 5, "a"), best(task, 1, "b")]
    first, second = (submit(db, "local", task.group.id, said) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.group.id == second.group.id == group.group.id
    assert len(events(db)) == 2
    assert submit(db, "local", group.group.id, [skip(group, "c")]) is None


def test_submit_without_a_word_is_refused_and_after_clicks_it_is_not(db: Database, group: GroupView) -> None:
    next_task(db, "local")
    with pytest.raises(ValueError, match="nothing was rated"):
        submit(db, "local", group.group.id, [])
    rate(db, stars(group, 0, 4, "a"))
    assert progress(db, "local").open == 1
    assert submit(db, "local", group.group.id, []) is None
    assert progress(db, "local") == Progress(rated=1, skipped=0, open=0, rated_today=1)


def test_a_submit_with_one_wrong_rating_keeps_none(db: Database, base: Checkpoint, group: GroupView) -> None:
    other = finished_group(db, base)
    foreign = RatingInput("b", "local", group.group.id, "best", other.images[0].image.id)
    with pytest.raises(ValueError, match="not in this group"):
        submit(db, "local", group.group.id, [stars(group, 0, 5, "a"), foreign])
    assert events(db) == []


def test_the_same_task_is_offered_until_it_is_done(db: Database, base: Checkpoint, group: GroupView) -> None:
    newer = finished_group(db, base)
    tasks = [next_task(db, "local") for _ in range(3)]
    assert [task.group.id for task in tasks if task] == [newer.group.id] * 3
    excluded = next_task(db, "local", exclude=[newer.group.id])
    assert excluded is not None
    assert excluded.group.id == group.group.id


def test_annotators_get_different_groups_while_there_are_enough(
    db: Database, base: Checkpoint, group: GroupView, ann: str
) -> None:
    rating_rules.put_rule(db, rating_rules.OVERLAP, {"share": 1, "raters": 2})
    newer = finished_group(db, base)
    tasks = [next_task(db, who) for who in ("local", ann)]
    assert [task.group.id for task in tasks if task] == [newer.group.id, group.group.id]
    submit(db, "local", newer.group.id, [best(newer, 0, "a")])
    rest = submit(db, ann, group.group.id, [best(group, 0, "b", ann)])
    assert rest is not None
    assert rest.group.id == newer.group.id


def test_a_lease_that_ran_out_goes_back_and_late_ratings_still_count(
    db: Database, base: Checkpoint, group: GroupView, ann: str
) -> None:
    assert next_task(db, "local") is not None
    expire_leases(db)
    other = finished_group(db, base)
    task = next_task(db, ann)
    assert task is not None
    assert task.group.id == other.group.id
    rate(db, stars(group, 0, 4, "late"))
    renewed = next_task(db, "local")
    assert renewed is not None
    assert renewed.group.id == group.group.id
    expire_leases(db)
    submit(db, "local", group.group.id, [best(group, 0, "later")])
    assert progress(db, "local").rated == 1


def test_the_images_of_what_comes_next_are_known_without_taking_it(
    db: Database, base: Checkpoint, group: GroupView, ann: str
) -> None:
    rating_rules.put_rule(db, rating_rules.OVERLAP, {"share": 0, "raters": 1})
    newer = finished_group(db, base)
    task = next_task(db, "local")
    assert task is not None
    ahead = [image.image.id for image in group.images]
    assert ratings.images_ahead(db, "local", [task.group.id], 1) == ahead
    assert ratings.images_ahead(db, ann, [], 2) == ahead  # the newer one is with somebody
    assert progress(db, ann).open == 1
    following = submit(db, "local", task.group.id, [skip(newer, "a")])
    assert following is not None
    assert following.group.id == group.group.id
    assert ratings.images_ahead(db, ann, [], 2) == [image.image.id for image in newer.images]


def test_a_group_can_be_taken_out_of_turn_until_it_is_judged(
    db: Database, base: Checkpoint, group: GroupView
) -> None:
    finished_group(db, base)
    for _ in range(2):
        taken = ratings.lease_group(db, "local", group.group.id)
        assert taken is not None
        assert taken.group.id == group.group.id
    task = next_task(db, "local")
    assert task is not None
    assert task.group.id == group.group.id
    submit(db, "local", group.group.id, [best(group, 0, "a")])
    assert ratings.lease_group(db, "local", group.group.id) is None
    assert ratings.lease_group(db, "local", finished_group(db, base, kind="sample").group.id) is None
    with pytest.raises(LookupError, match="no group"):
        ratings.lease_group(db, "local", "nothing")


def test_only_finished_groups_for_people_are_offered(db: Database, base: Checkpoint) -> None:
    groups.request_group(db, prompt="a", checkpoint_id=base.id, config=CONFIG, seeds=[1])
    for kind in ("sample", "evaluation", "demo"):
        finished_group(db, base, kind=kind)
    assert next_task(db, "local") is None
    made = finished_group(db, base, kind="studio")
    task = next_task(db, "local")
    assert task is not None
    assert task.group.id == made.group.id


def test_what_checkpoints_are_compared_by_is_rated_only_by_whoever_opens_it(
    db: Database, base: Checkpoint
) -> None:
    compared = finished_group(db, base, kind="compare")
    assert next_task(db, "local") is None
    assert progress(db, "local").open == 0
    taken = ratings.lease_group(db, "local", compared.group.id)
    assert taken is not None
    assert taken.group.id == compared.group.id


def test_a_group_rated_where_it_was_made_is_not_offered_again(db: Database, group: GroupView) -> None:
    rate(db, best(group, 0, "a"))
    assert next_task(db, "local") is None
    assert progress(db, "local") == Progress(rated=1, skipped=0, open=0, rated_today=1)


def test_the_views_of_a_group_show_one_annotators_ratings_or_the_last_word(
    db: Database, group: GroupView, ann: str
) -> None:
    rate(db, stars(group, 0, 2, "a"))
    rate(db, stars(group, 0, 5, "b", ann))
    seen = [groups.get_group(db, group.group.id, who).images[0].stars for who in ("local", ann, None)]
    assert seen == [2, 5, 5]


def test_fifty_annotators_at_once_lose_nothing(db: Database, base: Checkpoint) -> None:
    rating_rules.put_rule(db, rating_rules.OVERLAP, {"share": 1, "raters": 50})
    made = [finished_group(db, base, num_images=1) for _ in range(2)]
    names = [f"annotator {number}" for number in range(50)]
    with db.write() as session:
        session.add_all(User(id=name, name=name, role="annotator") for name in names)

    def work(name: str) -> None:
        task = next_task(db, name)
        while task is not None:
            task = submit(db, name, task.group.id, [best(task, 0, f"{name}/{task.group.seq}", name)])

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, names))
    assert len(events(db)) == len(names) * len(made)
    assert [event.seq for event in events(db)] == list(range(1, len(names) * len(made) + 1))
    assert ratings.progress(db, names[0]).rated == len(made)

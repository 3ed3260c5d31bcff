"""Which group comes next: what a run waits for, what few have seen, what teaches most; some come twice."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from sqlalchemy import select, update

from storage import assignments, groups, judged, offers, rating_rules, ratings, snapshots
from storage.engine import Database
from storage.groups import GroupView
from storage.models import Assignment, Checkpoint, ImageGroup, RatingEvent, Run, User
from storage.ratings import Progress, RatingInput, current_ratings, next_task, progress, submit, undo
from storage.types import utc_now
from tests.storage.records import CONFIG, finished_group


def best(group: GroupView, key: str, index: int = 0, who: str = "local") -> RatingInput:
    return RatingInput(key, who, group.group.id, "best", group.images[index].image.id)


def prioritise(db: Database, *values: tuple[GroupView, float | None]) -> None:
    with db.write() as session:
        for view, value in values:
            session.execute(update(ImageGroup).where(ImageGroup.id == view.group.id).values(priority=value))


def offered(db: Database, limit: int, who: str = "local") -> list[str]:
    with db.read() as session:
        return offers.likely(session, who, (), limit)


def rollout(db: Database, base: Checkpoint, run: Run) -> GroupView:
    made = finished_group(db, base, kind="rollout", num_images=2)
    with db.write() as session:
        session.execute(update(ImageGroup).where(ImageGroup.id == made.group.id).values(run_id=run.id))
    judged.ask_about(db, run.id, [made.group.id])
    return made


def test_a_group_that_a_run_waits_for_comes_first_until_the_run_is_over(
    db: Database, base: Checkpoint, run: Run
) -> None:
    waiting = rollout(db, base, run)
    newer = finished_group(db, base)
    prioritise(db, (newer, 9.0))
    assert offered(db, 2) == [waiting.group.id, newer.group.id]
    with db.write() as session:
        session.execute(update(Run).where(Run.id == run.id).values(state="stopped"))
    assert offered(db, 2) == [newer.group.id, waiting.group.id]


def test_a_group_that_its_run_has_stopped_waiting_for_comes_last_and_can_still_be_rated(
    db: Database, base: Checkpoint, run: Run
) -> None:
    earlier, newer, waiting = rollout(db, base, run), finished_group(db, base), rollout(db, base, run)
    assert offered(db, 3) == [view.group.id for view in (waiting, newer, earlier)]
    ratings.rate(db, best(earlier, "a"))
    assert [vote.client_key for vote in snapshots.standing_votes(db)] == ["a"]
    judged.ask_about(db, run.id, [])
    assert offered(db, 2) == [newer.group.id, waiting.group.id]


def test_among_the_least_seen_the_unknown_comes_first_and_then_what_teaches_most(
    db: Database, base: Checkpoint
) -> None:
    low, high, unknown, seen = (finished_group(db, base) for _ in range(4))
    prioritise(db, (low, 0.1), (high, 0.9), (seen, 5.0))
    with db.write() as session:
        session.add(User(id="ann", name="Ann", role="annotator"))
    ratings.rate(db, best(seen, "a", who="ann"))
    rating_rules.put_rule(db, rating_rules.OVERLAP, {"share": 1, "raters": 2})
    assert offered(db, 4) == [view.group.id for view in (unknown, high, low, seen)]


def test_about_one_draw_in_seven_is_random_and_can_be_foreseen(db: Database, base: Checkpoint) -> None:
    made = [finished_group(db, base, num_images=1) for _ in range(12)]
    prioritise(db, *((view, float(index)) for index, view in enumerate(made)))
    firsts = Counter[str]()
    names = [f"annotator {number}" for number in range(200)]
    with db.write() as session:
        for name in names:
            session.add(User(id=name, name=name, role="annotator"))
    with db.read() as session:
        for name in names:
            first, again = (offers.draw(session, name, ()) for _ in range(2))
            assert first is not None and first == again
            firsts[first[0].id] += 1
    others = 200 - firsts[made[-1].group.id]
    assert 12 <= others <= 48, firsts  # 200 x 0.15 x 11/12 = 27.5, std 4.9
    assert len(firsts) > 6


def rate_through(db: Database, base: Checkpoint, tasks: int) -> list[tuple[str, bool]]:
    """Rates group after group; (group id, whether it came the second time) of each task."""
    for _ in range(tasks + 2):
        finished_group(db, base)
    done = []
    task = next_task(db, "local")
    for number in range(tasks):
        assert task is not None
        with db.read() as session:
            again = assignments.is_asked_again(session, task.group.id, "local")
        done.append((task.group.id, again))
        task = submit(db, "local", task.group.id, [best(task, f"key {number}", index=int(again))])
    return done


def test_every_twentieth_task_is_one_of_the_annotators_own_once_they_know_the_work(
    db: Database, base: Checkpoint
) -> None:
    done = rate_through(db, base, 62)
    assert [number for number, (_, again) in enumerate(done, 1) if again] == [40, 60]
    for number in (40, 60):
        earlier = [group_id for group_id, _ in done[: number - 1]]
        assert done[number - 1][0] in earlier[:-10]
    assert done[39][0] != done[59][0]


def test_what_is_said_the_second_time_is_no_vote(db: Database, base: Checkpoint) -> None:
    done = rate_through(db, base, 40)
    group_id = done[-1][0]
    view = groups.get_group(db, group_id)
    assert current_ratings(db, group_id).best == view.images[0].image.id
    assert [vote.client_key for vote in snapshots.standing_votes(db, [group_id])] == [
        f"key {[one for one, _ in done].index(group_id)}"
    ]
    assert progress(db, "local") == Progress(rated=39, skipped=0, open=3, rated_today=39)
    with db.read() as session:
        second = session.scalar(select(RatingEvent).where(RatingEvent.client_key == "key 39"))
    assert second is not None and second.payload == {"repeat": True} and second.supersedes_id is None
    again = submit(db, "local", group_id, [best(view, "key 39", index=1)])
    assert again is not None and again.group.id != group_id
    assert current_ratings(db, group_id).best == view.images[0].image.id


def test_a_second_answer_can_be_taken_back_and_the_first_one_stands(db: Database, base: Checkpoint) -> None:
    group_id = rate_through(db, base, 40)[-1][0]
    view = groups.get_group(db, group_id)
    with db.write() as session:  # the task that followed is given back, as when its lease runs out
        assignments.expire(session, utc_now() + timedelta(days=1))
    taken = undo(db, "local", "u1")
    assert taken is not None and taken.group_id == group_id
    assert current_ratings(db, group_id).best == view.images[0].image.id
    task = next_task(db, "local")
    assert task is not None and task.group.id == group_id
    skipped = RatingInput("skip", "local", group_id, "skip")
    assert submit(db, "local", group_id, [skipped]) is not None
    assert not current_ratings(db, group_id).skipped
    assert progress(db, "local").rated == 39 and progress(db, "local").skipped == 0


def test_a_vote_taken_back_while_its_group_is_asked_again_makes_that_asking_the_vote(
    db: Database, group: GroupView
) -> None:
    submit(db, "local", group.group.id, [best(group, "first")])
    with db.write() as session:
        lent = Assignment(group_id=group.group.id, annotator_id="local", is_repeat=True)
        lent.lease_until = utc_now() + timedelta(minutes=5)
        session.add(lent)
    undo(db, "local", "u")
    assert progress(db, "local").rated == 0
    submit(db, "local", group.group.id, [best(group, "second", index=1)])
    assert current_ratings(db, group.group.id).best == group.images[1].image.id
    assert progress(db, "local") == Progress(rated=1, skipped=0, open=0, rated_today=1)


def test_groups_that_are_not_done_are_not_offered_whatever_they_would_teach(
    db: Database, base: Checkpoint
) -> None:
    waiting = groups.request_group(db, prompt="a", checkpoint_id=base.id, config=CONFIG, seeds=[1])
    with db.write() as session:
        session.execute(update(ImageGroup).where(ImageGroup.id == waiting.id).values(priority=9.0))
    assert next_task(db, "local") is None

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import audit, run_queue, runs
from storage.engine import Database
from storage.models import Checkpoint, Run


def queue_up(db: Database, base: Checkpoint, count: int) -> list[Run]:
    wanted = {"owner_id": "local", "parent_checkpoint_id": base.id, "config": {"num_updates": 1}}
    return [runs.create_run(db, name=f"run {n}", **wanted) for n in range(count)]  # type: ignore[arg-type]


def order(db: Database) -> list[str]:
    return [run.name for run in run_queue.queued_runs(db)]


def claim_all(db: Database) -> list[str]:
    claimed = []
    while (run := runs.claim_run(db, host="here", boot_id="boot")) is not None:
        claimed.append(run.name)
        assert runs.move(db, run.id, to="failed", from_states=("starting",), attempt=run.attempt)
    return claimed


def test_runs_wait_by_priority_and_then_by_age_and_are_claimed_in_that_order(
    db: Database, base: Checkpoint
) -> None:
    made = queue_up(db, base, 4)
    for _ in range(2):
        run_queue.move_in_queue(db, made[2].id, "sooner")
    for _ in range(2):
        run_queue.move_in_queue(db, made[0].id, "later")
    assert order(db) == ["run 2", "run 1", "run 3", "run 0"]
    assert run_queue.place_of(db, made[3].id) == (3, 4)
    assert claim_all(db) == ["run 2", "run 1", "run 3", "run 0"]
    assert run_queue.place_of(db, made[3].id) is None


def test_sooner_and_later_change_places_with_one_neighbour_and_who_did_it_is_kept(
    db: Database, base: Checkpoint
) -> None:
    made = queue_up(db, base, 3)
    run_queue.move_in_queue(db, made[2].id, "sooner")
    assert order(db) == ["run 0", "run 2", "run 1"]
    run_queue.move_in_queue(db, made[0].id, "later")
    assert order(db) == ["run 2", "run 0", "run 1"]
    run_queue.move_in_queue(db, made[2].id, "sooner")  # it is the first
    assert order(db) == ["run 2", "run 0", "run 1"]
    (last, first) = audit.page(db, limit=10)
    assert (first.act, first.who, first.target) == ("run.sooner", "local", made[2].id)
    assert last.detail == {"run": 1, "past": 3, "queue": [3, 1, 2]}


@settings(max_examples=25)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from(["sooner", "later", "set"]), st.integers(-3, 3))
    )
)
def test_any_moves_give_the_order_that_a_list_would_have(steps: list[tuple[int, str, int]]) -> None:
    """On rows without a database: the rule is pure."""
    queue = [Run(number=number, name=str(number), priority=0) for number in range(5)]

    def sorted_queue() -> list[Run]:
        return sorted(queue, key=lambda one: (-one.priority, one.number))

    for index, way, priority in steps:
        before = sorted_queue()
        if way == "set":
            before[index].priority = priority
            continue
        other = index - 1 if way == "sooner" else index + 1
        if 0 <= other < len(before):
            before[index], before[other] = before[other], before[index]
            run_queue._hold(before)
            assert sorted_queue() == before


def test_what_has_no_place_in_the_queue_is_refused_in_words(db: Database, base: Checkpoint, run: Run) -> None:
    with pytest.raises(LookupError):
        run_queue.move_in_queue(db, run.id, "sooner", "nobody")
    assert runs.claim_run(db, host="here", boot_id="boot") is not None
    with pytest.raises(ValueError, match="run 1 is starting: only a run that waits"):
        run_queue.move_in_queue(db, run.id, "sooner")

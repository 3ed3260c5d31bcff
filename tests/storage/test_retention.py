from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import catalog, checkpoints, groups, jobs, retention, runs
from storage.engine import Database
from storage.models import Checkpoint, Run
from storage.models_judging import BlindTest
from storage.models_studio import SavedGrid
from storage.retention import Made, to_prune
from storage.run_rules import RunRules, set_run_rules
from tests.storage.test_runs import commit, start

STRICT = RunRules(keep_all_up_to=0, keep_last=2, keep_every=0)

rules = st.builds(
    RunRules,
    keep_all_up_to=st.integers(0, 6),
    keep_last=st.integers(2, 4),
    keep_every=st.integers(0, 4),
)
histories = st.lists(
    st.tuples(st.booleans(), st.none() | st.floats(-1, 1), st.booleans()), min_size=0, max_size=14
)
"""(needed, score, whether its files are there)."""


def made_of(history: list[tuple[bool, float | None, bool]]) -> list[Made]:
    every = [Made(str(n), n, needed, score) for n, (needed, score, _) in enumerate(history)]
    return [one for one, (_, _, is_there) in zip(every, history, strict=True) if is_there]


@given(histories, rules)
def test_the_last_two_the_best_and_what_is_needed_always_stay(
    history: list[tuple[bool, float | None, bool]], rules: RunRules
) -> None:
    made = made_of(history)
    gone = to_prune(made, rules)
    kept = [one for one in made if one not in gone]
    assert made[-2:] == kept[-2:]  # never the only one, nor the one before it
    assert not any(one.is_needed for one in gone)
    scored = [one.score for one in made if one.score is not None]
    if scored:
        assert max(scored) == max(one.score for one in kept if one.score is not None)
    if len(made) <= rules.keep_all_up_to:
        assert gone == []


@given(histories, rules)
def test_pruning_again_removes_nothing_more(
    history: list[tuple[bool, float | None, bool]], rules: RunRules
) -> None:
    """What stays does not thin out with every commit."""
    made = made_of(history)
    kept = [one for one in made if one not in to_prune(made, rules)]
    assert to_prune(kept, rules) == []


def test_every_so_manieth_stays_counted_over_all_that_the_run_made() -> None:
    rules = dataclasses.replace(STRICT, keep_every=3)
    made = [Made(str(n), n) for n in range(9)]
    assert [one.place for one in to_prune(made, rules)] == [1, 2, 4, 5]
    assert to_prune([made[0], made[3], made[6], made[7], made[8]], rules) == []


@pytest.fixture
def long_run(db: Database, run: Run) -> list[Checkpoint]:
    """Six checkpoints of a run under way."""
    set_run_rules(db, STRICT)
    attempt = start(db, run)
    return [commit(db, run, attempt, update) for update in range(1, 7)]


def pruned(db: Database, run: Run) -> list[int]:
    retention.prune(db, run.id, runs.get_run(db, run.id).attempt)
    return [one.update for one in checkpoints.checkpoints_of_run(db, run.id) if one.state == "pruned"]


def test_what_is_pruned_stays_a_row_and_the_history_says_so(
    db: Database, run: Run, long_run: list[Checkpoint]
) -> None:
    assert [one.place for one in retention.prunable(db, run.id)] == [0, 1, 2, 3]
    assert pruned(db, run) == [1, 2, 3, 4]
    (event,) = [one for one in runs.events(db, run.id) if one.kind == "pruned"]
    assert event.payload == {"updates": [1, 2, 3, 4]}
    assert retention.prune(db, run.id, 1) == []


def test_a_process_of_an_earlier_attempt_prunes_nothing(
    db: Database, run: Run, long_run: list[Checkpoint]
) -> None:
    assert retention.prune(db, run.id, 0) == []
    assert all(one.state == "committed" for one in checkpoints.checkpoints_of_run(db, run.id))


def test_the_best_by_its_held_out_score_stays(db: Database, run: Run, long_run: list[Checkpoint]) -> None:
    weights = {"reward_weights": {"verifier": 1.0, "quality": -1.0}}
    with db.write() as session:
        row = session.get(Run, run.id)
        assert row is not None
        row.config = row.config | weights
    scores = {1: (0.2, 0.1), 2: (0.9, 0.1), 3: (0.95, 0.9), 6: (0.3, 0.2)}
    for update, (verifier, quality) in scores.items():
        values = {"held_out/verifier": verifier, "held_out/quality": quality}
        assert runs.record_metrics(db, run.id, 1, update, values)
    assert runs.record_metrics(db, run.id, 1, 4, {"held_out/verifier": 5.0})  # half a grid is no score
    assert pruned(db, run) == [1, 3, 4]


def test_pinned_promoted_and_needed_ones_stay(
    db: Database, base: Checkpoint, run: Run, long_run: list[Checkpoint]
) -> None:
    pinned, promoted, parent, drawn, *_ = long_run
    catalog.pin(db, pinned.id)
    catalog.promote(db, promoted.id)
    runs.create_run(db, name="next", owner_id="local", parent_checkpoint_id=parent.id, config={})
    groups.request_group(db, prompt="a", checkpoint_id=drawn.id, config={}, seeds=[1])
    assert pruned(db, run) == []
    catalog.pin(db, pinned.id, is_pinned=False)
    assert pruned(db, run) == [1]
    with pytest.raises(LookupError, match="are pruned: choose another"):
        catalog.pin(db, pinned.id)
    with pytest.raises(LookupError, match="are pruned: choose another"):
        groups.request_group(db, prompt="a", checkpoint_id=pinned.id, config={}, seeds=[1])


def test_jobs_blind_tests_and_saved_grids_hold_what_they_name_until_they_are_over(
    db: Database, run: Run, long_run: list[Checkpoint]
) -> None:
    measured, judged, gridded, *_ = long_run
    job = jobs.request_job(db, "evaluate", {"checkpoints": [measured.id]})
    with db.write() as session:
        test = BlindTest(seq=1, name="t", checkpoints=[judged.id], prompts=["a"], seeds=[1], config={})
        test.created_by = "local"
        grid = SavedGrid(seq=1, name="g", spec={"x": {"checkpoints": [gridded.id]}}, created_by="local")
        session.add_all([test, grid])
    assert pruned(db, run) == [4]
    assert jobs.fail_job(db, job.id, "over")
    assert pruned(db, run) == [1, 4]

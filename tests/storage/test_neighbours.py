"""What other hosts have in work is seen apart from one's own, and queued again once they have gone."""

from __future__ import annotations

from storage import groups, jobs, neighbours, runs, workers
from storage.engine import Database
from storage.models import Checkpoint, Run
from tests.storage.records import CONFIG


def beat(db: Database, name: str) -> None:
    workers.worker_beat(db, worker_id=name, pid=1, state="generating")


def test_active_runs_of_other_hosts_come_with_their_attempt_and_beat(db: Database, run: Run) -> None:
    runs.claim_run(db, host="a", boot_id="boot")
    assert neighbours.runs_elsewhere(db, "a") == []
    ((found, attempt, beat_at),) = neighbours.runs_elsewhere(db, "b")
    assert (found.id, attempt.host, attempt.attempt) == (run.id, "a", 1)
    said = runs.beat_of(db, run.id)
    assert said is not None and said.beat_at == beat_at
    runs.move(db, run.id, to="failed", from_states=("starting",))
    assert neighbours.runs_elsewhere(db, "b") == []


def test_work_of_a_worker_that_has_gone_is_queued_again_once(db: Database, base: Checkpoint) -> None:
    wanted = {"checkpoint_id": base.id, "config": CONFIG, "seeds": [1], "prompt": "a"}
    theirs = groups.request_group(db, worker_id="a:cpu", **wanted)  # type: ignore[arg-type]
    ours = groups.request_group(db, worker_id="b:cpu", **wanted)  # type: ignore[arg-type]
    job = jobs.request_job(db, kind="evaluation", payload={}, created_by="local")
    jobs.claim_job(db, "a:cpu")
    for name in ("a:cpu", "b:cpu", "a:idle"):
        beat(db, name)
    seen = neighbours.busy_workers_elsewhere(db, "b")
    assert list(seen) == ["a:cpu"]
    assert neighbours.take_back(db, "a:cpu", seen["a:cpu"])
    states = [groups.get_group(db, one.id).group.state for one in (theirs, ours)]
    assert states == ["queued", "running"]
    assert jobs.get_job(db, job.id).state == "queued"
    assert neighbours.busy_workers_elsewhere(db, "b") == {}


def test_a_worker_that_speaks_again_keeps_its_work(db: Database, base: Checkpoint) -> None:
    group = groups.request_group(
        db, prompt="a", checkpoint_id=base.id, config=CONFIG, seeds=[1], worker_id="a:cpu"
    )
    beat(db, "a:cpu")
    seen = neighbours.busy_workers_elsewhere(db, "b")
    beat(db, "a:cpu")
    assert not neighbours.take_back(db, "a:cpu", seen["a:cpu"])
    assert groups.get_group(db, group.id).group.state == "running"

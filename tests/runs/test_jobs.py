"""The worker does jobs beside groups: people's groups first, progress as rows, an end in every case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from flowgrpo.runs.jobs import Bench, Work
from flowgrpo.runs.keeper import WorkerKeeper
from flowgrpo.runs.worker import WEIGHTS, Worker
from storage import groups, jobs, scores
from storage.engine import Database
from storage.models import Checkpoint
from storage.models_judging import Job
from tests.runs.helpers import SAMPLING
from tests.runs.test_worker import IDLE


def done(db: Database, kinds: Mapping[str, Work], kind: str = "count") -> Job:
    """The job after a worker had it."""
    asked = jobs.request_job(db, kind, {"to": 3})
    worker = Worker(db, "cpu", WEIGHTS, kinds)
    assert worker._did_a_job()
    worker.beacon.end()
    return jobs.get_job(db, asked.id)


def count(bench: Bench) -> dict[str, Any]:
    total = bench.job.payload["to"]
    for number in range(total + 1):
        bench.tick("counting", number, total)
    return {"sum": sum(range(total))}


def test_a_job_ends_with_its_result(db: Database) -> None:
    job = done(db, {"count": count})
    assert (job.state, job.result, job.done, job.total) == ("done", {"sum": 3}, 3, 3)


@pytest.mark.parametrize(
    ("error", "words"),
    [(ValueError("give two checkpoints"), "give two checkpoints"), (KeyError("x"), "x"),
     (ZeroDivisionError("0"), "could not do this (ZeroDivisionError")],
)  # fmt: skip
def test_whatever_a_job_raises_becomes_its_reason(db: Database, error: Exception, words: str) -> None:
    def fails(bench: Bench) -> dict[str, Any]:
        raise error

    job = done(db, {"count": fails})
    assert job.state == "failed"
    assert words in (job.reason or "")


def test_a_kind_that_nobody_knows_is_refused_with_a_sentence(db: Database) -> None:
    assert "no job of the kind dance" in (done(db, {"count": count}, "dance").reason or "")


def test_a_canceled_job_stops_at_its_next_tick(db: Database) -> None:
    def canceled(bench: Bench) -> dict[str, Any]:
        bench.tick("before", 0, 2)
        jobs.cancel_job(db, bench.job.id)
        bench.tick("after", 2, 2)
        raise AssertionError("a canceled job goes on")

    assert done(db, {"count": canceled}).state == "canceled"


def test_a_group_that_people_wait_for_is_drawn_in_the_midst_of_a_job(db: Database, tiny: Checkpoint) -> None:
    def slow(bench: Bench) -> dict[str, Any]:
        asked = groups.request_group(db, prompt="red hair", checkpoint_id=tiny.id, config=SAMPLING, seeds=[1])
        bench.tick("working", 1, 2)
        return {"state": groups.get_group(db, asked.id).group.state}

    assert done(db, {"count": slow}).result == {"state": "done"}


def test_a_worker_publishes_the_card_of_every_reward(db: Database) -> None:
    worker = Worker(db, "cpu", WEIGHTS)
    worker.warm_up()
    worker.beacon.end()
    cards = scores.reward_cards(db)
    assert {"verifier", "clip", "aesthetic", "human", "safety"} <= set(cards)
    assert cards["verifier"]["state"] == "here"
    assert cards["human"]["state"] == "unavailable"
    assert worker.cards.join(30.0)  # no plug-in is installed here


def test_a_base_that_cannot_be_loaded_costs_no_cards(db: Database, base: Checkpoint) -> None:
    worker = Worker(db, "cpu", WEIGHTS)
    with pytest.raises(LookupError):
        worker.warm_up()
    worker.beacon.end()
    assert scores.reward_cards(db)["verifier"]["state"] == "here"


def test_a_job_whose_worker_ends_is_queued_again_and_blamed_only_for_its_death(db: Database) -> None:
    asked = jobs.request_job(db, "count", {})
    for died in (False, True, True):
        keeper = WorkerKeeper(db, "cpu", IDLE)
        keeper.tick()
        assert keeper._worker is not None
        jobs.claim_job(db, keeper.worker_id)
        if died:
            keeper._worker.kill()
            keeper._worker.wait()
            keeper.tick()
        keeper.stop()
    assert jobs.get_job(db, asked.id).state == "failed"

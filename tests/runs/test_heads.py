"""The job that fits a head says what it is worth, and offers first what would teach it the most."""

from __future__ import annotations

import pytest
import torch

from flowgrpo.runs.worker import WEIGHTS, Worker
from storage import jobs, ratings, scores, snapshots
from storage.engine import Database
from storage.models import Checkpoint
from storage.models_judging import Job
from tests.runs.test_taste import colourful_group, rated


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def done(db: Database) -> Job:
    asked = jobs.request_job(db, "fit_head", {})
    worker = Worker(db, "cpu", WEIGHTS)
    worker.cards.publish()
    assert worker._did_a_job()
    worker.beacon.end()
    return jobs.get_job(db, asked.id)


def test_a_job_fits_a_head_and_ranks_what_is_open(db: Database, tiny: Checkpoint) -> None:
    rated(db, tiny, range(12))
    waiting = [colourful_group(db, tiny, number) for number in range(100, 104)]
    job = done(db)
    assert job.state == "done", job.reason
    assert job.result is not None
    assert (job.result["num_pairs"], job.result["num_open"]) == (84, 4)
    assert "84 comparisons" in job.result["words"]
    fit = snapshots.applied_fit(db, "head")
    assert fit is not None and fit.id == job.result["fit"]
    offered = ratings.next_task(db, "local")
    assert offered is not None and offered.group.id in {view.group.id for view in waiting}
    assert offered.group.priority is not None
    assert scores.reward_cards(db)["human"]["state"] == "here"  # published again after the fit


def test_without_votes_the_job_says_what_to_do(db: Database, tiny: Checkpoint) -> None:
    job = done(db)
    assert job.state == "failed"
    assert "rate some groups first" in (job.reason or "")

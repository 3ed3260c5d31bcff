"""A job is a row before it is work, is done once, and ends with a result or a sentence."""

from __future__ import annotations

import pytest

from storage import jobs
from storage.engine import Database


def test_jobs_are_claimed_in_the_order_in_which_they_were_asked_for(db: Database) -> None:
    first = jobs.request_job(db, "evaluate", {"n": 1})
    second = jobs.request_job(db, "fit", {})
    assert jobs.jobs_ahead(db, second.id) == 1
    claimed = [jobs.claim_job(db, "w") for _ in range(3)]
    assert [one.id if one else None for one in claimed] == [first.id, second.id, None]
    assert jobs.jobs_ahead(db, second.id) == 0


def test_progress_and_result_are_kept(db: Database) -> None:
    made = jobs.request_job(db, "evaluate", {})
    jobs.claim_job(db, "w")
    assert jobs.report_progress(db, made.id, "drawing", 3, 8)
    seen = jobs.get_job(db, made.id)
    assert (seen.phase, seen.done, seen.total) == ("drawing", 3, 8)
    assert jobs.finish_job(db, made.id, {"rows": [1.5]})
    assert jobs.get_job(db, made.id).result == {"rows": [1.5]}
    assert [one.id for one in jobs.recent_jobs(db, "evaluate")] == [made.id]


def test_a_canceled_job_tells_its_worker_with_the_next_report(db: Database) -> None:
    made = jobs.request_job(db, "evaluate", {})
    jobs.claim_job(db, "w")
    assert jobs.cancel_job(db, made.id)
    assert not jobs.report_progress(db, made.id, "drawing", 1, 2)
    assert not jobs.finish_job(db, made.id, {})
    assert not jobs.fail_job(db, made.id, "late")
    assert jobs.get_job(db, made.id).state == "canceled"


def test_a_job_that_killed_two_workers_fails_and_one_that_was_interrupted_does_not(db: Database) -> None:
    made = jobs.request_job(db, "fit", {})
    for _ in range(3):
        jobs.claim_job(db, "w")
        assert [one.id for one in jobs.orphaned_jobs(db, "w")] == [made.id]
        assert jobs.requeue_job(db, made.id, died=False)
    jobs.claim_job(db, "w")
    assert jobs.requeue_job(db, made.id, died=True)
    jobs.claim_job(db, "w")
    assert not jobs.requeue_job(db, made.id, died=True)
    assert "stopped twice" in (jobs.get_job(db, made.id).reason or "")
    assert not jobs.requeue_job(db, made.id, died=True)


def test_an_unknown_user_asks_for_nothing(db: Database) -> None:
    with pytest.raises(LookupError, match="user"):
        jobs.request_job(db, "fit", {}, created_by="nobody")

"""A plan that a page asks for comes from the worker, and what cannot be planned says why."""

from __future__ import annotations

from flowgrpo.config import RunConfig
from storage import jobs, plans
from storage.engine import Database
from storage.models import Checkpoint
from tests.runs.helpers import tiny_config
from tests.runs.test_exchange_jobs import worked


def test_a_plan_is_measured_where_the_device_is_and_kept_as_a_row(db: Database, tiny: Checkpoint) -> None:
    config = RunConfig.model_validate(tiny_config()).model_dump(mode="json")
    job = worked(db, plans.request_plan(db, config, tiny.id))
    assert job.state == "done", job.reason
    told = job.result or {}
    assert told["device"] == "CPU" and told["seconds"] > 0 and told["memory"]["peak_bytes"] > 0
    found = plans.plan_of(db, config, tiny.id)
    assert found is not None and found.id == job.id


def test_a_plan_of_settings_that_cannot_be_used_fails_with_a_sentence(db: Database, tiny: Checkpoint) -> None:
    config = RunConfig.model_validate(tiny_config()).model_dump(mode="json")
    asked = plans.request_plan(db, config | {"reward_weights": {"nothing": 1.0}}, tiny.id)
    job = worked(db, asked)
    assert job.state == "failed" and "nothing" in (job.reason or "")
    assert plans.request_plan(db, config | {"reward_weights": {"nothing": 1.0}}, tiny.id).id != asked.id
    assert jobs.get_job(db, asked.id).state == "failed"

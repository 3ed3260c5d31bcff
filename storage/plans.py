"""Plans of runs that were not started yet: asked for, worked out by a worker, found by their settings."""

from __future__ import annotations

from typing import Any

from storage import jobs
from storage.engine import Database
from storage.lookup import config_hash
from storage.models_judging import Job

KIND = "plan"
_LOOKED_BACK = 20


def request_plan(db: Database, config: dict[str, Any], checkpoint: str, by: str = "local") -> Job:
    """Asks for the plan of a run; one that is known, or on its way, is not asked for again.

    Args:
        config: a RunConfig's dump.
        checkpoint: id of the one that the run would start from.

    Raises:
        LookupError: unknown user.
    """
    known = plan_of(db, config, checkpoint)
    if known is not None and known.state in ("queued", "running", "done"):
        return known
    payload = {"config": config, "checkpoint": checkpoint, "hash": config_hash(config)}
    return jobs.request_job(db, KIND, payload, by)


def plan_of(db: Database, config: dict[str, Any], checkpoint: str) -> Job | None:
    """The newest plan of exactly these settings among the last twenty; None where there is none."""
    wanted = config_hash(config), checkpoint
    found = jobs.recent_jobs(db, KIND, limit=_LOOKED_BACK)
    return next((job for job in found if (job.payload["hash"], job.payload["checkpoint"]) == wanted), None)

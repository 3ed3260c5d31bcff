"""The plan of a run that somebody is about to start, worked out where the device is."""

from __future__ import annotations

from typing import Any

from flowgrpo.config import RunConfig
from flowgrpo.runs.jobs import Bench
from flowgrpo.runs.plan import Wishes, make_plan


def plan_job(bench: Bench) -> dict[str, Any]:
    """Memory, disk and time of a run's settings on a base, one micro-batch measured.

    The job's payload has `config`, a RunConfig's dump, and `checkpoint`, the id of where it starts.

    Raises LookupError or ValueError with a sentence where base or settings cannot be used.
    """
    config = RunConfig.model_validate(bench.job.payload["config"])
    bench.tick("measuring", 0, 1)
    with bench.turn():
        try:
            plan = make_plan(bench.db, config, str(bench.job.payload["checkpoint"]), bench.weights, Wishes())
        except OSError as error:
            raise ValueError(f"The base's files cannot be read: {error}.") from error
    return plan.to_json()

"""Blind tests that wait for their images: the wish is a job, and the test will have the id of that job.

So one address shows how far the drawing is, and then the test, whoever looks and whatever was restarted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from storage import blind_pairs
from storage.engine import Database
from storage.jobs import request_job
from storage.lookup import checked_prompt, required
from storage.models import Checkpoint
from storage.models_judging import BlindTest, Job

KIND = "blind"
"""Of the job."""


def request_blind_test(db: Database, payload: dict[str, Any], created_by: str = "local") -> Job:
    """Queues the drawing of what a blind test lacks; the engine creates the test when all is there.

    Args:
        payload: `checkpoints` (ids), `prompts`, `seeds`, `config` (a SamplingConfig's dump) and `name`.

    Raises:
        ValueError: what is no test, or checkpoints of several bases.
        LookupError: an unknown user, or a checkpoint that is unknown, damaged or pruned.
    """
    ids: Sequence[str] = payload["checkpoints"]
    blind_pairs.check(ids, [checked_prompt(one) for one in payload["prompts"]], payload["seeds"])
    with db.read() as session:
        rows = [required(session, Checkpoint, one, "checkpoint") for one in ids]
    for row in rows:
        if row.state != "committed":
            raise LookupError(f"the files of checkpoint {row.name} are {row.state}: choose another one")
    if len({row.base_model_id for row in rows}) > 1:
        raise ValueError(
            "the checkpoints have different bases, which draw alike with no setting: choose one base"
        )
    return request_job(db, KIND, dict(payload), created_by)


def waiting(db: Database, limit: int = 50) -> list[Job]:
    """Jobs whose test is not there yet, or never came to be, newest first."""
    made = select(BlindTest.id)
    query = select(Job).where(Job.kind == KIND, Job.state != "done", Job.id.not_in(made))
    with db.read() as session:
        return list(session.scalars(query.order_by(Job.seq.desc()).limit(limit)))

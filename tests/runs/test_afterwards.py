"""A complete run is put before the annotators, blind, where there are any."""

from __future__ import annotations

from typing import Any

import pytest

from flowgrpo.config import RunConfig, SamplingConfig
from flowgrpo.runs import afterwards
from storage import blind_requests, checkpoints, jobs, runs, users
from storage.engine import Database
from storage.models import Checkpoint, Run

HELD_OUT = ["portrait, buns", "portrait, smile", "portrait, buns"]


def made(db: Database, base: Checkpoint, updates: tuple[int, ...] = (2, 4), **config: Any) -> Run:
    """A run that saved checkpoints."""
    said: dict[str, Any] = {"num_updates": 4, "prompts": ["red hair"], "held_out_prompts": HELD_OUT}
    said |= {"reward_weights": {"verifier": 1.0}} | config
    config = RunConfig.model_validate(said).model_dump(mode="json")
    run = runs.create_run(db, name="r", owner_id="local", parent_checkpoint_id=base.id, config=config)
    runs.claim_run(db, host="h", boot_id="b")
    for update in updates:
        saved: dict[str, Any] = {"name": f"r, {update}", "path": f"p{update}", "sha256": "0" * 64}
        checkpoints.commit_checkpoint(db, run_id=run.id, attempt=1, update=update, **saved)
    return run


def test_annotators_judge_the_last_checkpoint_against_the_parent_as_the_run_drew(
    db: Database, base: Checkpoint
) -> None:
    users.add_user(db, "Ann", "annotator")
    run = made(db, base, rollout={"num_steps": 6, "guidance_scale": 2.0, "width": 64, "height": 64})
    job = afterwards.ask_annotators(db, run.id)
    assert job is not None and jobs.get_job(db, job.id).state == "queued"
    last = checkpoints.checkpoints_of_run(db, run.id)[-1]
    assert (last.update, job.payload["checkpoints"]) == (4, [base.id, last.id])
    assert job.payload["prompts"] == HELD_OUT[:2]
    drawn = SamplingConfig(num_steps=6, guidance_scale=2.0, width=64, height=64)
    assert job.payload["config"] == drawn.model_dump()


@pytest.mark.parametrize("role", ["artist", "trainer"])
def test_without_annotators_nobody_is_asked(db: Database, base: Checkpoint, role: Any) -> None:
    users.add_user(db, "Tom", role)
    users.set_active(db, users.add_user(db, "Gone", "annotator").id, False)
    assert afterwards.ask_annotators(db, made(db, base).id) is None


@pytest.mark.parametrize("lacks", [{"updates": ()}, {"held_out_prompts": []}])
def test_without_held_out_prompts_or_a_checkpoint_there_is_nothing_to_judge(
    db: Database, base: Checkpoint, lacks: dict[str, Any]
) -> None:
    users.add_user(db, "Ann", "annotator")
    assert afterwards.ask_annotators(db, made(db, base, **lacks).id) is None
    assert jobs.recent_jobs(db, blind_requests.KIND) == []

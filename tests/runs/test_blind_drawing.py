"""The job of a blind test on a tiny base: it draws what is missing, makes the test once, and says why not."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from flowgrpo.config import SamplingConfig
from flowgrpo.rewards.stack import load_stack
from flowgrpo.runs.blind_drawing import blind_job
from flowgrpo.runs.generation import Painter
from flowgrpo.runs.job_kinds import KINDS
from flowgrpo.runs.jobs import Bench, do
from flowgrpo.runs.shelf import PolicyShelf
from storage import blind, blind_requests, checkpoints, groups, jobs
from storage.engine import Database
from storage.models import Checkpoint, GroupKind
from storage.models_judging import Job
from tests.runs.helpers import SAMPLING

CONFIG = SamplingConfig.model_validate(SAMPLING).model_dump()


@pytest.fixture
def payload(db: Database, pipeline: Path) -> dict[str, object]:
    """The base against a second checkpoint that draws as the base does."""
    torch.set_num_threads(1)
    base = checkpoints.register_base(db, name="starter", source=str(pipeline), family="sdxl")
    with db.write() as session:
        twin = Checkpoint(base_model_id=base.base_model_id, name="twin", path=None)
        session.add(twin)
    ids = [base.id, twin.id]
    return {"checkpoints": ids, "prompts": ["portrait, red hair"], "seeds": [0, 1], "config": CONFIG}


def bench(db: Database, job: Job, tmp_path: Path) -> Bench:
    """What a worker gives a job."""
    device = torch.device("cpu")
    painter = Painter(
        db, PolicyShelf(db, device), load_stack(("diversity",), tmp_path), lambda _: None, lambda: False
    )
    return Bench(
        db, job, painter, device, tmp_path, turn=nullcontext, between=lambda: None, is_ending=lambda: False
    )


def claimed(db: Database, payload: dict[str, object]) -> Job:
    asked = blind_requests.request_blind_test(db, payload)
    job = jobs.claim_job(db, "worker")
    assert job is not None and job.id == asked.id
    return job


def drawn(db: Database) -> int:
    evaluated: tuple[GroupKind, ...] = ("evaluation",)
    return len(groups.recent_groups(db, kinds=evaluated, limit=50))


def test_a_blind_test_draws_what_it_lacks_and_has_the_id_of_its_job(
    db: Database, payload: dict[str, object], tmp_path: Path
) -> None:
    job = claimed(db, payload)
    do(bench(db, job, tmp_path), KINDS)
    ended = jobs.get_job(db, job.id)
    assert (ended.state, ended.result, ended.done, ended.total) == ("done", {"test": job.id}, 4, 4)
    assert blind.counts(db, job.id) == (0, 2)
    assert drawn(db) == 2


def test_a_worker_that_died_after_making_the_test_leaves_no_second_one(
    db: Database, payload: dict[str, object], tmp_path: Path
) -> None:
    job = claimed(db, payload)
    for _ in range(2):
        assert blind_job(bench(db, job, tmp_path)) == {"test": job.id}
    assert len(blind.list_tests(db)) == 1
    assert drawn(db) == 2


def test_a_payload_that_is_no_test_is_refused_with_one_sentence(
    db: Database, payload: dict[str, object], tmp_path: Path
) -> None:
    job = claimed(db, payload)
    job.payload = payload | {"seeds": []}
    with pytest.raises(ValueError, match="seeds cannot be used"):
        blind_job(bench(db, job, tmp_path))

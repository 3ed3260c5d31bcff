"""The evaluation job on a tiny base: drawn in batches across prompts, found again, resumed, refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from flowgrpo import rollout
from flowgrpo.config import SamplingConfig
from flowgrpo.rewards.base import RewardSpec, ScoreBatch, ScoreResult, scored
from flowgrpo.rewards.stack import load_stack
from flowgrpo.runs import evaluation_images, jobs, layout
from flowgrpo.runs.evaluating import checked, evaluate
from flowgrpo.runs.generation import CanceledError, InterruptedDrawingError, Painter
from flowgrpo.runs.job_kinds import KINDS
from flowgrpo.runs.jobs import Bench
from flowgrpo.runs.shelf import PolicyShelf
from storage import checkpoints, evaluations, groups, ratings, snapshots
from storage import jobs as job_rows
from storage.engine import Database
from storage.models import Checkpoint
from storage.models_judging import Job
from storage.ratings import RatingInput
from tests.runs.helpers import SAMPLING, begin, new_run
from tests.storage.records import finished_group
from tests.untrained import untrained_rewards

CONFIG = SamplingConfig.model_validate(SAMPLING).model_dump()
PROMPTS = ["portrait, red hair", "portrait, blue hair", "portrait, glasses"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return untrained_rewards(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def starter(db: Database, pipeline: Path) -> Checkpoint:
    return checkpoints.register_base(db, name="starter", source=str(pipeline), family="sdxl")


Make = Callable[..., Bench]


@pytest.fixture
def bench(db: Database, weights: Path) -> Make:
    """Claims a job of these checkpoints, on the real pieces of a worker."""
    shelf = PolicyShelf(db, torch.device("cpu"))
    stack = load_stack(("verifier", "clip", "quality", "diversity"), weights)
    painter = Painter(db, shelf, stack, lambda _: None, lambda: False)

    def make(rows: list[Checkpoint], **changes: Any) -> Bench:
        asked = {"checkpoints": [row.id for row in rows], "prompts": PROMPTS, "seeds": [0, 1]}
        asked |= {"config": CONFIG, "num_references": 12} | changes
        evaluations.request_evaluation(db, asked)
        job = job_rows.claim_job(db, "worker")
        assert job is not None
        return Bench(
            db, job, painter, torch.device("cpu"), weights, turn=nullcontext, between=lambda: None,
            is_ending=lambda: False,
        )  # fmt: skip

    return make


def calls_of(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each batch draws from now on."""
    sizes: list[int] = []
    original = rollout.denoise

    def counted(policy: Any, prompts: Any, **settings: Any) -> Any:
        sizes.append(len(prompts))
        return original(policy, prompts, **settings)

    monkeypatch.setattr(evaluation_images, "denoise", counted)
    return sizes


def done(bench: Bench) -> Job:
    jobs.do(bench, KINDS)
    return job_rows.get_job(bench.db, bench.job.id)


def test_an_evaluation_draws_once_in_one_batch_and_is_found_again(
    bench: Make, starter: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = calls_of(monkeypatch)
    first = done(bench([starter]))
    assert batches == [6]  # three prompts of two seeds in one call
    second = done(bench([starter]))
    assert batches == [6]
    assert first.state == second.state == "done"
    assert first.result is not None and second.result is not None
    assert first.result["rows"] == second.result["rows"]
    assert (second.done, second.total) == (6, 6)


def test_every_number_of_the_result_is_a_row_and_in_the_files(bench: Make, starter: Checkpoint) -> None:
    work = bench([starter])
    job = done(work)
    assert job.result is not None
    figures = job.result["rows"][0]["figures"]
    assert {"judge", "clip", "quality", "kid", "mmd", "diversity", "ssim/ref", "perceptual/ref"} <= set(
        figures
    )
    rows = evaluations.evaluations_of_job(work.db, job.id)
    assert {row.metric for row in rows} == {
        cell["key"] for cell in figures.values() if cell["value"] is not None
    }
    assert all(row.n == 6 for row in rows if "judge" not in row.detail["name"])
    folder = layout.evaluation_folder(work.db.home, job.id)
    assert {path.name for path in folder.iterdir()} == set(job.result["files"].values())
    told = json.loads((folder / "result.json").read_text())
    assert told["rows"] == job.result["rows"]


def test_a_new_seed_is_all_that_is_drawn(
    bench: Make, starter: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(bench([starter], metrics=["clip"]))
    batches = calls_of(monkeypatch)
    done(bench([starter], metrics=["clip"], seeds=[1, 0, 5]))
    assert batches == [3]


def test_a_canceled_evaluation_keeps_what_it_drew(
    bench: Make, starter: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation_images, "ROWS", 2)
    work = bench([starter], metrics=["clip"])
    batches = calls_of(monkeypatch)
    original = evaluations.keep_drawn

    def kept_and_canceled(*args: Any, **named: Any) -> None:
        original(*args, **named)
        job_rows.cancel_job(work.db, work.job.id)
        work._reported = 0.0

    monkeypatch.setattr(evaluation_images, "keep_drawn", kept_and_canceled)
    monkeypatch.setattr(jobs, "REPORT_SECONDS", 0.0)
    with pytest.raises(CanceledError):
        evaluate(work)
    assert batches == [2]
    monkeypatch.setattr(evaluation_images, "keep_drawn", original)
    assert done(bench([starter], metrics=["clip"])).state == "done"
    assert batches == [2, 2, 2]


def test_a_worker_that_ends_leaves_the_batch_at_once(bench: Make, starter: Checkpoint) -> None:
    work = bench([starter])
    told = iter([False, False, True])
    work.is_ending = lambda: next(told)
    with pytest.raises(InterruptedDrawingError):
        evaluate(work)


def test_a_device_without_memory_gets_smaller_batches(
    bench: Make, starter: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, sizes = rollout.denoise, []

    def small(policy: Any, prompts: Any, **settings: Any) -> Any:
        sizes.append(len(prompts))
        if len(prompts) > 2:
            raise torch.OutOfMemoryError("no memory")
        return original(policy, prompts, **settings)

    monkeypatch.setattr(evaluation_images, "denoise", small)
    monkeypatch.setattr(evaluation_images, "ROWS", 4)
    assert done(bench([starter], metrics=["clip"])).state == "done"
    assert sizes == [4, 2, 2, 2]


def test_a_checkpoint_that_cannot_draw_is_named_and_the_others_are_measured(
    bench: Make, starter: Checkpoint, db: Database
) -> None:
    run = begin(db, new_run(db, starter))
    broken = checkpoints.commit_checkpoint(
        db, run_id=run.id, attempt=run.attempt, update=1, name="broken", path="runs/nowhere", sha256="0" * 64
    )
    job = done(bench([starter, broken], metrics=["clip"]))
    assert job.result is not None
    assert [row["name"] for row in job.result["rows"]] == ["starter"]
    (reason,) = job.result["failed"].values()
    assert "damaged" in reason


def test_prompts_that_taught_a_checkpoint_are_told_in_the_result_and_in_its_table(
    bench: Make, starter: Checkpoint, db: Database
) -> None:
    run = new_run(db, starter, prompts=["Portrait, red hair", "a hat"])
    tuned = Checkpoint(base_model_id=starter.base_model_id, run_id=run.id, name="Run 1 · update 4")
    with db.write() as session:
        session.add(tuned)  # without files of its own: it draws as the base does
    work = bench([starter, tuned], metrics=["clip"])
    job = done(work)
    assert job.result is not None
    told = f"1 of 3 prompts trained {tuned.name}: its numbers there say how well it learned its own prompts."
    assert job.result["trained_on"] == {tuned.id: told}
    folder = layout.evaluation_folder(db.home, job.id)
    assert json.loads((folder / "result.json").read_text())["trained_on"] == {tuned.id: told}
    assert f"- {told}\n" in (folder / "table.md").read_text()
    assert f"% {told}\n" in (folder / "table.tex").read_text()


def test_a_sweep_holds_every_number_of_steps_against_the_configs_own(
    bench: Make, starter: Checkpoint
) -> None:
    job = done(bench([starter], steps=[1, 2, 3], metrics=["clip", "ssim"]))
    assert job.result is not None
    rows = job.result["rows"]
    assert [row["steps"] for row in rows] == [2, 1, 3]
    assert [row["evaluations"] for row in rows] == [2, 1, 3]
    assert all(row["seconds"] > 0 for row in rows)
    assert "change" not in rows[0]["figures"]["clip"]
    assert {"clip", "ssim/base", "ssim/ref"} == set(rows[1]["figures"])


def test_a_base_that_is_no_starter_has_no_judge_and_no_reference_and_says_so(
    bench: Make, tiny: Checkpoint
) -> None:
    job = done(bench([tiny]))
    assert job.result is not None
    absent = job.result["absent"]
    assert "no folder of references" in absent["kid"]
    assert "starter's words" in absent["judge"]
    assert "no preference head" in absent["preference"]
    assert "lpips" in absent and "aesthetic" in absent


class Head:
    spec = RewardSpec("preference", "preference head", "pointwise", 0.0, 1.0, "7", "own")

    def score(self, batch: ScoreBatch) -> ScoreResult:
        return scored(batch.images.float().mean((1, 2, 3)) / 255)


def test_a_preference_head_is_a_column(bench: Make, tiny: Checkpoint) -> None:
    result = evaluate(bench([tiny], metrics=["preference"]), head_of=lambda _: Head())
    (row,) = result["rows"]
    assert row["figures"]["preference"]["key"] == "preference@preference-7/n6"
    assert result["trained_on"] == {}


def test_prompts_whose_ratings_the_preference_head_knows_are_told(bench: Make, tiny: Checkpoint) -> None:
    work = bench([tiny], metrics=["preference", "clip"])
    view = finished_group(work.db, tiny, PROMPTS[1].upper())
    ratings.rate(work.db, RatingInput("a vote key", "local", view.group.id, "best", view.images[0].image.id))
    snapshot = snapshots.take_snapshot(work.db, snapshots.standing_votes(work.db))
    snapshots.record_fit(
        work.db, kind="head", snapshot_id=snapshot.id, version="7", detail={}, num_pairs=1, state="applied"
    )
    assert evaluate(work, head_of=lambda _: Head())["trained_on"] == {
        "preference": "The preference head learned from ratings of 1 of 3 prompts: there it knows what "
        "people said."
    }


def test_metrics_that_nobody_has_are_refused_with_their_reasons(bench: Make, tiny: Checkpoint) -> None:
    with pytest.raises(ValueError, match=r"none of the metrics can be had here .*there is no reward"):
        evaluate(bench([tiny], metrics=["beauty"]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"seeds": []}, "seeds"), ({"prompts": []}, "one of them"), ({"surprise": 1}, "surprise"),
     ({"config": CONFIG | {"num_steps": 0}}, "config.num_steps")],
)  # fmt: skip
def test_a_payload_that_makes_no_sense_is_refused_in_a_sentence(changes: dict[str, Any], words: str) -> None:
    payload = {"checkpoints": ["a"], "prompts": ["b"], "seeds": [1], "config": CONFIG}
    with pytest.raises(ValueError, match=words):
        checked(payload | changes)


def test_evaluations_are_a_kind_of_job() -> None:
    assert evaluations.KIND in KINDS


def test_evaluation_groups_are_not_offered_for_rating(bench: Make, starter: Checkpoint) -> None:
    work = bench([starter], metrics=["clip"])
    done(work)
    assert groups.queued_count(work.db) == 0
    assert groups.claim_group(work.db, "w") is None


def test_a_column_of_a_table_may_be_asked_for_by_its_name() -> None:
    asked = {"checkpoints": ["a"], "prompts": ["p"], "seeds": [1], "config": CONFIG}
    names = ["ssim/base", "ssim", "judge/mouth", "clip"]
    assert checked(asked | {"metrics": names}).metrics == ("ssim", "judge", "clip")

"""Each journey of the product, as rows."""

from __future__ import annotations

from storage import checkpoints, evaluations, finding, groups, prompts, ratings, runs, workers
from storage.engine import Database
from storage.groups import ScoreInput
from storage.models import Checkpoint, Run
from storage.ratings import RatingInput
from tests.storage.records import CONFIG, finished_group


def test_a_requested_group_is_claimed_drawn_scored_and_shown(db: Database, base: Checkpoint) -> None:
    asked = groups.request_group(db, prompt="red hair", checkpoint_id=base.id, config=CONFIG, seeds=[7, 8])
    assert groups.queued_count(db) == 1
    claimed = groups.claim_group(db, "host:cpu")
    assert claimed is not None
    assert claimed.id == asked.id
    assert claimed.state == "running"
    assert groups.claim_group(db, "host:cpu") is None
    assert groups.set_phase(db, asked.id, "step 1 of 8")
    for index, seed in enumerate(asked.seeds):
        image = groups.add_image(
            db, group_id=asked.id, index=index, seed=seed, sha256="a" * 64, width=64, height=64
        )
        groups.add_scores(
            db, [ScoreInput(image.id, "clip", "1", 0.3), ScoreInput(image.id, "verifier", "1", None, "no")]
        )
    assert groups.finish_group(db, asked.id)
    (view,) = groups.recent_groups(db, kinds=["studio"], limit=5)
    assert [image.image.seed for image in view.images] == [7, 8]
    assert view.images[0].scores["clip"].value == 0.3
    assert view.images[0].scores["verifier"].reason == "no"
    (found,) = finding.find_groups(db, [finding.Wanted("red hair", base.id, CONFIG, (7, 8))])
    assert found is not None and found.group.id == asked.id


def test_a_group_is_leased_rated_undone_and_rated_again(db: Database, base: Checkpoint) -> None:
    older, newer = finished_group(db, base), finished_group(db, base, "blue hair")
    task = ratings.next_task(db, "local")
    assert task is not None
    assert task.group.id == newer.group.id
    first, second = (view.image.id for view in task.images)
    said = [
        RatingInput("key-1", "local", newer.group.id, "stars", first, 4),
        RatingInput("key-2", "local", newer.group.id, "best", second),
    ]
    following = ratings.submit(db, "local", newer.group.id, said)
    assert following is not None
    assert following.group.id == older.group.id
    assert ratings.current_ratings(db, newer.group.id).stars == {first: 4}
    assert groups.get_group(db, newer.group.id).images[1].best
    assert ratings.progress(db, "local") == ratings.Progress(rated=1, skipped=0, open=1, rated_today=1)
    undone = ratings.undo(db, "local", "key-3")
    assert undone is not None
    assert undone.group_id == newer.group.id
    assert ratings.current_ratings(db, newer.group.id).best is None
    assert ratings.progress(db, "local").open == 2


def test_a_run_is_claimed_beats_stops_and_resumes(db: Database, run: Run) -> None:
    claimed = runs.claim_run(db, host="here", boot_id="boot")
    assert claimed is not None
    assert (claimed.state, claimed.attempt) == ("starting", 1)
    runs.record_attempt(db, run.id, 1, pid=123, pid_start=456)
    assert runs.move(db, run.id, to="running", from_states=("starting",), attempt=1)
    assert runs.beat(db, run.id, 1, 1, 4, "sampling", 2.5)
    assert runs.beat(db, run.id, 1)
    beat = runs.beat_of(db, run.id)
    assert beat is not None
    assert (beat.update, beat.phase) == (1, "sampling")
    assert runs.record_metrics(db, run.id, 1, 1, {"reward": 0.5, "kl": float("nan")})
    assert [(point.name, point.value) for point in runs.metrics_since(db, run.id, 0)] == [("reward", 0.5)]
    checkpoint = checkpoints.commit_checkpoint(
        db, run_id=run.id, attempt=1, update=1, name="first 1", path="runs/x", sha256="b" * 64
    )
    assert [row.id for row in checkpoints.checkpoints_of_run(db, run.id)] == [checkpoint.id]
    runs.record_event(db, run.id, 1, "warning", "clip said the same of every image")
    runs.request_stop(db, run.id)
    assert runs.stop_requested(db, run.id)
    assert runs.move(db, run.id, to="stopped", from_states=("running",), attempt=1, reason="asked")
    runs.end_attempt(db, run.id, 1, exit_code=75)
    assert runs.resume_run(db, run.id).state == "queued"
    assert not runs.stop_requested(db, run.id)
    assert not runs.beat(db, run.id, 1)
    assert [row.exit_code for row in runs.attempts_of(db, run.id)] == [75]
    assert runs.active_runs(db, "here") == []
    assert [row.number for row in runs.list_runs(db)] == [1]
    assert [event.to_state for event in runs.events(db, run.id) if event.kind == "state"] == [
        "starting", "running", "stopped", "queued",
    ]  # fmt: skip


def test_prompt_sets_evaluations_and_workers_are_kept(db: Database, base: Checkpoint) -> None:
    first = prompts.save_prompt_set(db, "hair", ["red hair", "blue hair"], ["green hair"])
    assert prompts.save_prompt_set(db, "hair", ["red hair", "blue hair"], ["green hair"]).id == first.id
    assert prompts.save_prompt_set(db, "hair", ["red hair"], []).version == 2
    assert [row.text for row in prompts.prompts_of(db, first.id, "held_out")] == ["green hair"]
    assert [row.version for row in prompts.list_prompt_sets(db)] == [2]
    evaluations.record_evaluation(db, checkpoint_id=base.id, metric="clip", value=0.3, n=8, extractor="tiny")
    assert [row.metric for row in evaluations.evaluations_of(db, base.id)] == ["clip"]
    workers.worker_beat(db, worker_id="host:cpu", pid=1, state="idle")
    workers.worker_beat(db, worker_id="host:cpu", pid=2, state="generating", detail="step 1")
    assert [(row.pid, row.state) for row in workers.worker_status(db)] == [(2, "generating")]

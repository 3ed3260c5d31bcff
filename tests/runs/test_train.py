from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import torch

from flowgrpo.runs import exits, layout
from flowgrpo.runs.prompts import prompts_of_rollout
from storage import checkpoints, groups, runs
from storage.engine import Database
from storage.models import Checkpoint
from tests.runs.helpers import adapter_hashes, begin, new_run, train

METRICS = {
    "reward/mean", "reward/diversity", "reward_std/diversity", "advantage/mean", "advantage/std",
    "policy/kl", "policy/ratio_max_deviation", "policy/clip_fraction", "policy/grad_norm",
    "groups/dead_share", "diversity", "seconds/rollout", "seconds/reward", "seconds/update",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_a_run_learns_notes_samples_and_saves(db: Database, tiny: Checkpoint) -> None:
    run = begin(db, new_run(db, tiny))
    train(db, run)
    points = runs.metrics_since(db, run.id, -1)
    assert {p.update for p in points} == {0, 1, 2, 3, 4}
    assert {p.name for p in points if p.update == 3} >= METRICS
    assert all(p.value < 1e-5 for p in points if p.name == "policy/ratio_max_deviation")
    assert any(p.name == "held_out/diversity" for p in points if p.update == 4)
    lines = (layout.run_folder(db.home, run.id) / "metrics.jsonl").read_text().splitlines()
    assert {json.loads(line)["update"] for line in lines} == {0, 1, 2, 3, 4}
    made = checkpoints.checkpoints_of_run(db, run.id)
    assert [(c.update, c.name) for c in made] == [(2, "Run 1 · update 2"), (4, "Run 1 · update 4")]
    grids = groups.groups_of_run(db, run.id)
    assert [(g.group.update, g.group.state, g.group.kind) for g in grids] == [
        (0, "done", "sample"), (2, "done", "sample"), (4, "done", "sample"),
    ]  # fmt: skip
    assert len({tuple(g.group.seeds) for g in grids}) == 1
    assert grids[0].images[0].image.sha256 != grids[2].images[0].image.sha256
    beat = runs.beat_of(db, run.id)
    assert beat is not None
    assert (beat.update, beat.num_updates) == (4, 4)
    assert (beat.seconds_per_update or 0) > 0


def test_stopping_leaves_a_checkpoint_from_which_the_run_goes_on_exactly(
    db: Database, tiny: Checkpoint
) -> None:
    whole = begin(db, new_run(db, tiny))
    train(db, whole)
    runs.move(db, whole.id, to="completed", from_states=("running",))
    run = begin(db, new_run(db, tiny))
    stop = threading.Event()

    def stop_after_one() -> None:
        while not any(m.update == 1 for m in runs.metrics_since(db, run.id, 0)):
            threading.Event().wait(0.01)
        stop.set()

    watcher = threading.Thread(target=stop_after_one)
    watcher.start()
    with pytest.raises(exits.EndedError) as ended:
        train(db, run, stop)
    watcher.join()
    assert ended.value.code == exits.STOPPED
    assert "it can be resumed" in ended.value.reason
    assert checkpoints.checkpoints_of_run(db, run.id)
    runs.move(db, run.id, to="stopped", from_states=("running",))
    runs.resume_run(db, run.id)
    train(db, begin(db, run))
    assert adapter_hashes(db, run, 4) == adapter_hashes(db, whole, 4)


def test_a_run_starts_from_another_runs_checkpoint(db: Database, tiny: Checkpoint) -> None:
    first = begin(db, new_run(db, tiny, num_updates=1))
    train(db, first)
    runs.move(db, first.id, to="completed", from_states=("running",))
    (parent,) = checkpoints.checkpoints_of_run(db, first.id)
    second = begin(db, new_run(db, parent, num_updates=1))
    train(db, second)
    (child,) = checkpoints.checkpoints_of_run(db, second.id)
    assert child.parent_id == parent.id
    assert child.sha256 != parent.sha256


def test_prompts_are_drawn_without_replacement_and_reshuffled_each_epoch() -> None:
    prompts = [f"prompt {i}" for i in range(6)]
    epochs = [
        [p for rollout in range(3 * e, 3 * e + 3) for p in prompts_of_rollout(prompts, 7, rollout, 2)]
        for e in range(3)
    ]
    assert all(sorted(epoch) == prompts for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert epochs == [
        [p for rollout in range(3 * e, 3 * e + 3) for p in prompts_of_rollout(prompts, 7, rollout, 2)]
        for e in range(3)
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompts": []}, "prompts cannot be used"),
        ({"reward_weights": {"diversity": 0.0}}, "all reward weights are zero"),
        ({"reward_weights": {"beauty": 1.0}}, 'there is no reward "beauty"'),
        ({"num_updates": 0}, "num_updates cannot be used"),
        ({"nonsense": 1}, "nonsense cannot be used"),
    ],
)
def test_settings_that_cannot_be_used_end_the_run_with_a_sentence(
    db: Database, tiny: Checkpoint, changes: dict[str, object], words: str
) -> None:
    run = begin(db, new_run(db, tiny, **changes))
    with pytest.raises(exits.EndedError, match=words) as ended:
        train(db, run)
    assert ended.value.code == exits.BAD_CONFIG


def test_a_reward_without_weights_ends_the_run_before_it_starts(
    db: Database, tiny: Checkpoint, tmp_path: Path
) -> None:
    run = begin(db, new_run(db, tiny, reward_weights={"verifier": 1.0}))
    with pytest.raises(exits.EndedError, match="the verifier reward could not be loaded") as ended:
        train(db, run, weights=tmp_path / "nothing")
    assert ended.value.code == exits.REWARDS_FAILED


def test_a_base_that_is_gone_ends_the_run_with_a_sentence(db: Database) -> None:
    gone = checkpoints.register_base(db, name="gone", source="/nowhere/pipeline", family="sdxl")
    run = begin(db, new_run(db, gone))
    with pytest.raises(exits.EndedError, match="there is no folder /nowhere/pipeline") as ended:
        train(db, run)
    assert ended.value.code == exits.BAD_CONFIG

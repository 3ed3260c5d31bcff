"""What the worker does with one group, in this process, on a tiny pipeline."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from flowgrpo.rewards.base import ScoreBatch, ScoreResult
from flowgrpo.rewards.stack import RewardStack
from flowgrpo.runs import exits
from flowgrpo.runs.worker import WEIGHTS, Worker
from storage import checkpoints, groups, runs
from storage.engine import Database
from storage.groups import GroupView
from storage.models import Checkpoint
from tests.given import Given, brightness
from tests.runs.helpers import SAMPLING, begin, new_run, train


@pytest.fixture
def worker(db: Database) -> Iterator[Worker]:
    torch.set_num_threads(1)
    made = Worker(db, "cpu", WEIGHTS)
    yield made
    made.beacon.end()


def work(worker: Worker, checkpoint: Checkpoint, num_images: int = 2) -> GroupView:
    """A new group after the worker has had it."""
    group = groups.request_group(
        worker.db,
        prompt="red hair",
        checkpoint_id=checkpoint.id,
        config=SAMPLING,
        seeds=list(range(num_images)),
    )
    claimed = groups.claim_group(worker.db, worker.name)
    assert claimed is not None
    worker.work(claimed)
    return groups.get_group(worker.db, group.id)


def test_a_group_that_runs_out_of_memory_fails_with_what_to_do_and_the_next_one_is_drawn(
    worker: Worker, tiny: Checkpoint
) -> None:
    def exhaust(_: ScoreBatch) -> ScoreResult:
        raise torch.OutOfMemoryError("tried to allocate 2 GiB")

    stack = worker.painter.stack
    worker.painter.stack = RewardStack({"given": Given(exhaust)})
    failed = work(worker, tiny).group
    assert failed.state == "failed"
    assert (failed.reason or "").startswith("The device ran out of memory: ask for fewer or smaller images")
    worker.painter.stack = stack
    assert work(worker, tiny).group.state == "done"


def test_images_that_are_not_finite_are_never_kept_and_the_group_says_so(
    worker: Worker, tiny: Checkpoint
) -> None:
    weight = worker.shelf.get(tiny).network.conv_out.weight
    before = weight.clone()
    weight.fill_(torch.nan)
    view = work(worker, tiny)
    assert (view.group.state, view.images) == ("failed", [])
    assert view.group.reason == (
        "2 of 2 images by tiny hold numbers that are not finite, so none of them was kept: "
        "lower the guidance, or choose another checkpoint."
    )
    weight.copy_(before)
    assert work(worker, tiny).group.state == "done"


def test_a_group_of_one_is_drawn_scored_and_shown(worker: Worker, tiny: Checkpoint) -> None:
    view = work(worker, tiny, num_images=1)
    assert view.group.state == "done"
    (image,) = view.images
    assert image.scores["clip"].value is not None
    assert image.scores["diversity"].value is None
    assert image.scores["diversity"].reason == "a group of one image has no neighbour to differ from"


@pytest.fixture
def tuned(db: Database, tiny: Checkpoint) -> Checkpoint:
    """What a run of one update has left on disk."""
    run = begin(db, new_run(db, tiny, num_updates=1, samples=0))
    train(db, run)
    runs.move(db, run.id, to="completed", from_states=("running",))
    (checkpoint,) = checkpoints.checkpoints_of_run(db, run.id)
    return checkpoint


def damage(db: Database, checkpoint: Checkpoint, how: str) -> None:
    path = db.home / str(checkpoint.path) / "adapter" / "ema.safetensors"
    if how == "changed":
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["changed", "missing"])
def test_a_checkpoint_damaged_on_disk_is_marked_so_and_nothing_else_is_lost(
    worker: Worker, tiny: Checkpoint, tuned: Checkpoint, how: str
) -> None:
    before = work(worker, tiny)
    assert work(worker, tuned).group.state == "done"
    assert work(worker, tiny).group.state == "done"  # the adapter leaves the weights
    damage(worker.db, tuned, how)
    view = work(worker, tuned)
    assert (view.group.state, view.images) == ("failed", [])
    assert (view.group.reason or "").startswith("The files of checkpoint Run 1 · update 1 are damaged")
    assert "choose another checkpoint" in (view.group.reason or "")
    assert checkpoints.get_checkpoint(worker.db, tuned.id).state == "bad"
    assert checkpoints.get_checkpoint(worker.db, tiny.id).state == "committed"
    after = work(worker, tiny)
    assert [i.image.sha256 for i in after.images] == [i.image.sha256 for i in before.images]


def test_a_run_from_a_damaged_checkpoint_ends_in_words_and_the_base_still_trains(
    db: Database, tiny: Checkpoint, tuned: Checkpoint
) -> None:
    damage(db, tuned, "changed")
    run = begin(db, new_run(db, tuned, num_updates=1, samples=0))
    with pytest.raises(exits.EndedError, match=r"are damaged .*: choose another checkpoint") as ended:
        train(db, run)
    assert ended.value.code == exits.BAD_CONFIG
    assert checkpoints.get_checkpoint(db, tuned.id).state == "bad"
    assert checkpoints.checkpoints_of_run(db, run.id) == []
    runs.move(db, run.id, to="failed", from_states=("running",))
    other = begin(db, new_run(db, tiny, num_updates=1, samples=0))
    train(db, other)
    assert len(checkpoints.checkpoints_of_run(db, other.id)) == 1


def test_an_image_that_was_scored_before_is_not_scored_again(worker: Worker, tiny: Checkpoint) -> None:
    seen: list[int] = []

    def answer(batch: ScoreBatch) -> ScoreResult:
        seen.append(len(batch))
        return brightness(batch)

    stack = worker.painter.stack
    worker.painter.stack = RewardStack({"given": Given(answer)}, cache=stack.cache)
    first, second = work(worker, tiny), work(worker, tiny)
    assert seen == [2]
    values = [[view.scores["given"].value for view in group.images] for group in (first, second)]
    assert values[0] == values[1]

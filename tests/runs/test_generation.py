"""What the worker does with one group, in this process, on a tiny pipeline."""

from __future__ import annotations

import pytest
import torch

from flowgrpo.rewards.base import ScoreBatch, ScoreResult
from flowgrpo.rewards.stack import RewardStack
from flowgrpo.runs.worker import WEIGHTS, Worker
from storage import groups
from storage.engine import Database
from storage.groups import GroupView
from storage.models import Checkpoint
from tests.given import Given
from tests.runs.helpers import SAMPLING


@pytest.fixture
def worker(db: Database) -> Worker:
    torch.set_num_threads(1)
    return Worker(db, "cpu", WEIGHTS)


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
    weight = worker.shelf.get(tiny).unet.conv_out.weight
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

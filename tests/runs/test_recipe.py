"""Stage 1 and stage 2 as one recipe: the second starts from what the first made, without a person between."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from storage import ancestry, checkpoints, following, runs
from storage.engine import Database
from storage.models import Checkpoint
from tests.runs.helpers import begin, new_run, tiny_config, train
from tests.runs.test_stage1 import pictures, settings
from tests.runs.test_trainer import begin_again

__all__ = ["pictures"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_reinforcement_follows_fine_tuning_on_images_from_its_last_weights(
    db: Database, tiny: Checkpoint, pictures: Path
) -> None:
    first = new_run(db, tiny, **settings(pictures, num_updates=2, samples=0))
    second = runs.create_run(
        db, name="then rewards", owner_id="local", parent_checkpoint_id=tiny.id, follows_id=first.id,
        config=tiny_config(num_updates=1, checkpoint_every=1, samples=0),
    )  # fmt: skip
    train(db, begin(db, first))
    assert following.why_waiting(db, second.id)
    runs.move(db, first.id, to="stopped", from_states=("running",))
    assert "which is stopped. Resume that one" in (following.why_waiting(db, second.id) or "")
    runs.move(db, first.id, to="queued", from_states=("stopped",))
    train(db, begin(db, first))
    runs.move(db, first.id, to="completed", from_states=("running",))
    learned = begin(db, second)
    train(db, learned)
    (made,) = checkpoints.checkpoints_of_run(db, second.id)
    line = [step.run.number if step.run else None for step in ancestry.lineage_of(db, made.id).steps]
    assert line == [second.number, first.number, None]
    assert made.parent_id == checkpoints.checkpoints_of_run(db, first.id)[-1].id
    again = begin_again(db, learned)
    assert again.parent_checkpoint_id == made.parent_id

"""The learning rate of a run that decays."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from flowgrpo.runs import exits
from flowgrpo.runs.trainer import Trainer
from storage import runs
from storage.engine import Database
from storage.models import Checkpoint
from tests.runs.helpers import adapter_hashes, begin, new_run
from tests.runs.test_trainer import begin_again, trainer_of


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_a_rate_that_decays_falls_in_a_straight_line_and_a_resume_goes_on_exactly(
    db: Database, tiny: Checkpoint
) -> None:
    changes = {"update": {"learning_rate": 1e-2, "decay": "linear"}, "num_updates": 4, "samples": 0}
    whole = begin(db, new_run(db, tiny, **changes))
    trainer = trainer_of(db, whole)
    seen: list[float] = []
    step = trainer.learner.step

    def noting(*, ends_update: bool = True) -> tuple[float, bool]:
        seen.append(trainer.learner.optimizer.param_groups[0]["lr"])
        return step(ends_update=ends_update)

    trainer.learner.step = noting  # type: ignore[method-assign]
    trainer.train()
    assert seen == pytest.approx([1e-2, 7.5e-3, 5e-3, 2.5e-3])
    runs.move(db, whole.id, to="completed", from_states=("running",))
    run = begin(db, new_run(db, tiny, **changes))
    first = trainer_of(db, run)
    first._count = stopping_after(first, 2)  # type: ignore[method-assign]
    with pytest.raises(exits.EndedError, match="Stopped at update 2"):
        first.train()
    trainer_of(db, begin_again(db, run)).train()
    assert adapter_hashes(db, run, 4) == adapter_hashes(db, whole, 4)


def stopping_after(trainer: Trainer, update: int) -> Any:
    """Its own counting, which asks the run to stop at this update."""
    count = trainer._count

    def counting(*given: Any) -> None:
        count(*given)
        if trainer.position.update == update:
            trainer.stop.set()

    return counting

"""A trainer does what people ask for between its updates, and what it learns is the same for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from flowgrpo.rewards.base import ScoreBatch, ScoreResult, scored
from flowgrpo.runs import audience, exits
from flowgrpo.runs.samples import grid_of
from flowgrpo.runs.trainer import Trainer
from storage import branches, checkpoints, run_wishes, runs
from storage.engine import Database
from storage.models import Checkpoint, Run
from tests.given import Given
from tests.runs.helpers import adapter_hashes, begin, new_run
from tests.runs.test_trainer import BOTH, brightness, trainer_of

Ask = Callable[[Database, str], Run]
SETTINGS: dict[str, Any] = {"reward_weights": BOTH, "sample_every": 4}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(audience, "POLL_SECONDS", 0.02)


def asking(db: Database, run: Run, at: int, *asks: Ask) -> Trainer:
    """One attempt that is asked for something while it samples for the update after `at`."""
    trainer = trainer_of(db, run)

    def answer(batch: ScoreBatch) -> ScoreResult:
        if trainer.position.update == at and trainer.position.calibrated_stds:
            for ask in asks:
                ask(db, run.id)
        return scored(brightness(batch))

    trainer.stack.rewards["verifier"] = Given(answer, "verifier")
    return trainer


def whole_run(db: Database, tiny: Checkpoint, **changes: Any) -> tuple[Run, Trainer]:
    run = begin(db, new_run(db, tiny, **SETTINGS | changes))
    trainer = asking(db, run, -1)
    trainer.train()
    runs.move(db, run.id, to="completed", from_states=("running",))
    return run, trainer


def test_a_run_that_pauses_on_request_and_is_resumed_ends_as_one_that_ran_through(
    db: Database, tiny: Checkpoint
) -> None:
    whole, never_paused = whole_run(db, tiny)
    run = begin(db, new_run(db, tiny, **SETTINGS))
    with pytest.raises(exits.EndedError, match="Paused on request at update 3 of 4") as ended:
        asking(db, run, 2, run_wishes.request_pause).train()
    assert exits.state_after(ended.value.code, stop_requested=False) == "paused"
    assert exits.state_after(ended.value.code, stop_requested=True) == "stopped"
    assert [c.update for c in checkpoints.checkpoints_of_run(db, run.id)] == [2, 3]
    runs.move(db, run.id, to="paused", from_states=("running",), reason=ended.value.reason)
    runs.resume_run(db, run.id)
    again = asking(db, begin(db, run), -1)
    again.train()
    assert adapter_hashes(db, run, 4) == adapter_hashes(db, whole, 4)
    assert again.position == never_paused.position


def test_a_checkpoint_and_samples_are_made_when_asked_for_and_the_run_goes_on_the_same(
    db: Database, tiny: Checkpoint
) -> None:
    whole, _ = whole_run(db, tiny)
    run = begin(db, new_run(db, tiny, **SETTINGS))
    asking(db, run, 2, run_wishes.request_save, run_wishes.request_sample).train()
    made = {c.update: c for c in checkpoints.checkpoints_of_run(db, run.id)}
    assert list(made) == [2, 3, 4]
    (view,) = grid_of(db, run.id, 3)
    assert (view.group.checkpoint_id, len(view.images)) == (made[3].id, 2)
    assert run_wishes.wishes_of(db, run.id) == {}
    said = [e.detail for e in runs.events(db, run.id) if e.kind in ("save_done", "sample_done")]
    assert said == ["Saved after update 3, as asked.", "Drew samples after update 3, as asked."]
    assert adapter_hashes(db, run, 4) == adapter_hashes(db, whole, 4)


def test_what_is_asked_before_the_first_update_waits_for_it_and_a_pause_does_not(
    db: Database, tiny: Checkpoint
) -> None:
    run = begin(db, new_run(db, tiny, samples=0))
    run_wishes.request_save(db, run.id)
    run_wishes.request_pause(db, run.id)
    with pytest.raises(exits.EndedError, match="Paused on request at update 0"):
        trainer_of(db, run).train()
    assert checkpoints.checkpoints_of_run(db, run.id) == []
    assert list(run_wishes.wishes_of(db, run.id)) == ["pause", "save"], "the shim's move clears them"


def test_a_run_that_waits_for_people_pauses_at_once(db: Database, tiny: Checkpoint) -> None:
    asks = {"people": {"weight": 1.0, "timeout_minutes": 60.0}, "num_updates": 1, "samples": 0}
    run = begin(db, new_run(db, tiny, **SETTINGS | asks))
    with pytest.raises(exits.EndedError, match="Paused on request at update 0 of 1"):
        asking(db, run, 0, run_wishes.request_pause).train()


def test_an_extended_run_ends_as_one_that_was_so_long_from_the_start(db: Database, tiny: Checkpoint) -> None:
    whole, long = whole_run(db, tiny, num_updates=4)
    run, _ = whole_run(db, tiny, num_updates=2)
    kept = adapter_hashes(db, run, 2)
    longer = begin(db, branches.continue_run(db, run.id, 2))
    trainer = asking(db, longer, -1)
    trainer.train()
    assert adapter_hashes(db, run, 4) == adapter_hashes(db, whole, 4)
    assert adapter_hashes(db, run, 2) == kept
    assert trainer.position == long.position

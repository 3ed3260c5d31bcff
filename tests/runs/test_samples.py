"""A sample grid is held to the base's by one version of each reward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from flowgrpo.rewards.base import RewardSpec, ScoreBatch, ScoreResult, scored
from flowgrpo.runs import exits
from flowgrpo.runs.trainer import Trainer
from storage import runs
from storage.engine import Database
from storage.models import Checkpoint, Run
from tests.given import Given
from tests.runs.helpers import begin, new_run
from tests.runs.test_trainer import begin_again, brightness, said, trainer_of

SETTINGS: dict[str, Any] = {
    "reward_weights": {"verifier": 1.0},
    "num_updates": 2,
    "samples": 4,
    "sample_every": 1,
    "checkpoint_every": 1,
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@dataclass
class Refitted:
    """Brightness, and another zero from the second rollout on: as a head that was fitted anew."""

    shift: float = 9.0
    trainer: Trainer | None = None
    stops: bool = False
    """Whether it has the run stop after its first update."""

    @property
    def is_new(self) -> bool:
        return self.trainer is not None and self.trainer.position.rollout > 0

    @property
    def spec(self) -> RewardSpec:
        version = "2" if self.is_new else "1"
        return RewardSpec("verifier", "verifier", "pointwise", 0.0, 1.0, version, "Apache-2.0")

    def score(self, batch: ScoreBatch) -> ScoreResult:
        if self.stops and self.trainer is not None and self.trainer.position.update == 1:
            self.trainer.stop.set()
        return scored(brightness(batch) / 255 + self.shift * self.is_new)


def trainer_with(db: Database, run: Run, reward: Refitted) -> Trainer:
    reward.trainer = trainer_of(db, run)
    reward.trainer.stack.rewards["verifier"] = reward
    return reward.trainer


def numbers(db: Database, run: Run, update: int) -> dict[str, float]:
    return {m.name: m.value for m in runs.metrics_since(db, run.id, -1) if m.update == update}


def test_a_reward_that_is_refitted_scores_the_base_again_and_its_new_zero_is_no_rise(
    db: Database, tiny: Checkpoint
) -> None:
    run = begin(db, new_run(db, tiny, **SETTINGS))
    one = trainer_with(db, run, Refitted())
    one.train()
    base, now = numbers(db, run, 0), numbers(db, run, 1)
    assert now["held_out/verifier"] - base["held_out/verifier"] > 8
    assert now["held_out_base/verifier"] == pytest.approx(base["held_out/verifier"] + 9, abs=1e-4)
    assert now["held_out_error/verifier"] < 0.1
    assert said(db, run, "alarm") == []


def test_the_version_that_scored_the_base_outlives_the_attempt(db: Database, tiny: Checkpoint) -> None:
    run = begin(db, new_run(db, tiny, **SETTINGS))
    with pytest.raises(exits.EndedError, match="Stopped at update 1"):
        trainer_with(db, run, Refitted(stops=True)).train()
    trainer_with(db, begin_again(db, run), Refitted()).train()
    base, now = numbers(db, run, 0), numbers(db, run, 2)
    assert now["held_out_base/verifier"] == pytest.approx(base["held_out/verifier"] + 9, abs=1e-4)


def test_a_reward_that_stays_the_same_has_the_base_scored_once(db: Database, tiny: Checkpoint) -> None:
    run = begin(db, new_run(db, tiny, **SETTINGS))
    trainer_of(db, run, verifier=Given(lambda batch: scored(brightness(batch)), "verifier")).train()
    assert "held_out_base/verifier" not in numbers(db, run, 1)
    assert numbers(db, run, 1)["held_out_error/verifier"] > 0

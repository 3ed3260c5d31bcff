"""Whatever loads a reward looks for its files in the data folder that was opened, and uses its head."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flowgrpo.config import RunConfig
from flowgrpo.rewards import registry
from flowgrpo.rewards.base import Reward, RewardSpec, ScoreBatch, ScoreResult, scored
from flowgrpo.rewards.entry import Entry
from flowgrpo.rewards.fetch import Options
from flowgrpo.runs import doctor, plan
from flowgrpo.runs.probe import Probe
from flowgrpo.runs.reward_options import options_for
from flowgrpo.runs.worker import WEIGHTS, Worker
from storage import jobs
from storage.engine import Database
from storage.models import Checkpoint
from tests.given import Given
from tests.runs.helpers import begin, new_run, tiny_config
from tests.runs.test_taste import rated
from tests.runs.test_trainer import trainer_of

CARD = RewardSpec("given", "as a test says", "pointwise", 0.0, 1.0, "", "Apache-2.0")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _another_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of the environment is not the one that was opened, as with `--home`."""
    monkeypatch.setenv("FLOWGRPO_HOME", str(tmp_path / "elsewhere"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """What a reward named `given` is told each time that somebody loads it."""
    told: list[Options] = []

    def bright(batch: ScoreBatch) -> ScoreResult:
        return scored(batch.images.float().flatten(1).mean(1) / 255)

    def load(_: RewardSpec, __: str, options: Options) -> Reward:
        told.append(options)
        return Given(bright, "given")

    monkeypatch.setitem(registry.REGISTRY, "given", Entry(lambda *_: CARD, load))
    return told


def test_a_run_keeps_fetched_weights_in_its_own_folder(
    db: Database, tiny: Checkpoint, asked: list[Options]
) -> None:
    trainer_of(db, begin(db, new_run(db, tiny, reward_weights={"given": 1.0}, samples=0)))
    (options,) = asked
    assert options.cache == db.home / "models" / "rewards"


def test_a_plan_looks_there_too_and_has_its_probe_look_there(
    db: Database, tiny: Checkpoint, asked: list[Options], monkeypatch: pytest.MonkeyPatch
) -> None:
    def note(*given: object) -> Probe:
        asked.extend(one for one in given if isinstance(one, Options))
        raise ValueError("that is enough")

    monkeypatch.setattr(plan, "probe", note)
    config = RunConfig.model_validate(tiny_config(reward_weights={"given": 1.0}, samples=0))
    with pytest.raises(ValueError, match="that is enough"):
        plan.make_plan(db, config, tiny.name, WEIGHTS, plan.Wishes())
    assert [options.cache for options in asked] == [db.home / "models" / "rewards"] * 2


def test_before_a_fit_there_is_no_head_and_after_it_the_doctor_tries_it(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "names", lambda: ["human"])
    said: list[str] = []
    assert options_for(db, WEIGHTS).head is None
    doctor.report(db, said.append, rewards=True, as_json=False)
    assert "needs a preference head" in said.pop()
    rated(db, tiny, range(12))
    jobs.request_job(db, "fit_head", {})
    worker = Worker(db, "cpu", WEIGHTS)
    assert worker._did_a_job()
    worker.beacon.end()
    head = options_for(db, WEIGHTS).head
    assert head is not None and head.is_file() and head.is_relative_to(db.home)
    doctor.report(db, said.append, rewards=True, as_json=False)
    assert said.pop().startswith("ok    human")

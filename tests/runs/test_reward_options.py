"""Whatever loads a reward looks for its files in the data folder that was opened, and uses its head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from app import cli
from flowgrpo.config import RunConfig
from flowgrpo.rewards import registry
from flowgrpo.rewards.base import Reward, RewardSpec
from flowgrpo.rewards.entry import Entry
from flowgrpo.rewards.fetch import Options
from flowgrpo.rewards.stack import load_stack
from flowgrpo.runs import doctor, plan
from flowgrpo.runs.probe import Probe
from flowgrpo.runs.reward_options import options_for
from flowgrpo.runs.worker import WEIGHTS, Worker
from storage import jobs, notices
from storage.engine import Database
from storage.models import Checkpoint
from tests.given import Given, brightness
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

    def load(_: RewardSpec, __: str, options: Options) -> Reward:
        told.append(options)
        return Given(brightness)

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


def test_pickscore_runs_once_its_notice_is_accepted_at_the_command_line(db: Database) -> None:
    command = ["accept", "pickscore", "--home", str(db.home)]

    def reason() -> str:
        return load_stack(["pickscore"], WEIGHTS, options=options_for(db, WEIGHTS)).unavailable["pickscore"]

    refused = CliRunner().invoke(cli, command, input="n\n")
    assert refused.exit_code == 1 and "names no licence" in refused.output
    assert "waits for somebody" in reason()
    taken = CliRunner().invoke(cli, command, input="y\n")
    assert taken.exit_code == 0 and "Noted: pickscore may be used." in taken.output
    assert "fetching is switched off" in reason()  # nothing but its weights is missing here
    assert registry.card("pickscore", options_for(db, WEIGHTS))["accepted"]


def test_a_plug_ins_notice_holds_for_all_its_options_and_for_this_text_alone(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def about(name: str, option: str) -> RewardSpec:
        return replace(CARD, name=f"{name}:{option}" if option else name, notice=text)

    entry = Entry(about, lambda card, _, __: Given(brightness, card.name))
    monkeypatch.setitem(registry.REGISTRY, "given", entry)
    text = "Not for sale."
    done = CliRunner().invoke(cli, ["accept", "given:gain=2", "--yes", "--home", str(db.home)])
    assert done.exit_code == 0, done.output
    names = ["given", "given:gain=3"]
    assert list(load_stack(names, WEIGHTS, options=options_for(db, WEIGHTS)).rewards) == names
    text = "Not for sale, nor for rent."
    assert list(load_stack(names, WEIGHTS, options=options_for(db, WEIGHTS)).unavailable) == names


def test_a_reward_without_a_notice_and_one_that_nobody_knows_are_not_accepted(db: Database) -> None:
    there, absent = (CliRunner().invoke(cli, ["accept", n, "--home", str(db.home)]) for n in ("clip", "x"))
    assert (there.exit_code, absent.exit_code) == (0, 2)
    assert "clip has no notice" in there.output and 'there is no reward "x"' in absent.output
    assert not notices.file_of(db.home).exists()

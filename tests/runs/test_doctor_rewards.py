"""The doctor tries every reward, one that fails or hangs among them, and compares what is recorded."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from app import cli
from flowgrpo.rewards import registry
from flowgrpo.rewards.base import RewardSpec, ScoreBatch, ScoreResult
from flowgrpo.rewards.entry import Entry
from flowgrpo.rewards.fetch import Options
from flowgrpo.rewards.stack import EMBEDDED
from flowgrpo.runs import doctor_rewards
from flowgrpo.runs.doctor_rewards import GOLDEN, Checkup, examine_rewards, golden_batch
from flowgrpo.runs.worker import WEIGHTS
from tests.given import Given, brightness

CARD = RewardSpec("given", "as a test says", "pointwise", 0.0, 1.0, "", "Apache-2.0")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def options(tmp_path: Path) -> Options:
    return Options(WEIGHTS, cache=tmp_path, offline=True)


def recorded() -> dict[str, Any]:
    golden: dict[str, Any] = json.loads(GOLDEN.read_text())
    return golden


@pytest.fixture
def checkup(options: Options, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Checkup]:
    """Of a reward that does what a test says."""

    def examine(
        answer: Callable[[ScoreBatch], ScoreResult], load: Callable[[], object] = lambda: None
    ) -> Checkup:
        def loaded(*_: object) -> Given:
            load()
            return Given(answer)

        monkeypatch.setitem(registry.REGISTRY, "given", Entry(lambda *_: CARD, loaded))
        (found,) = examine_rewards(options, ["given"])
        return found

    return examine


def test_the_embedded_rewards_give_the_values_that_were_recorded(options: Options) -> None:
    names = [*EMBEDDED, "perceptual_ref", "pixel_stats"]
    found = list(examine_rewards(options, names))
    assert [(one.name, one.level, one.words) for one in found] == [
        (name, "ok", "as recorded, within 0.002") for name in names
    ]
    assert all(one.image_seconds and one.load_seconds is not None for one in found)


def test_a_value_that_differs_is_a_problem_and_says_by_how_much(options: Options) -> None:
    golden = recorded()
    golden["rewards"]["quality"]["values"][3] += 0.1
    (one,) = examine_rewards(options, ["quality"], golden)
    assert one.level == "problem"
    assert one.words == "its values differ from those recorded by up to 0.1, and by 0.002 at most they may"
    assert one.difference == pytest.approx(0.1, abs=1e-3)


def test_values_of_another_version_are_not_compared(options: Options) -> None:
    golden = recorded()
    golden["rewards"]["quality"] |= {"version": "another", "values": []}
    (one,) = examine_rewards(options, ["quality"], golden)
    assert (one.level, one.words) == ("note", "it scores; what was recorded is of version another")


def test_portraits_that_are_drawn_otherwise_are_said_and_nothing_is_compared(options: Options) -> None:
    golden = recorded()
    golden["images_sha256"][0] = "0" * 64
    first, one = examine_rewards(options, ["quality"], golden)
    assert (first.name, first.level) == ("(portraits)", "note")
    assert one.words == "it scores; there are no recorded values yet"


def test_a_reward_without_recorded_values_says_so(checkup: Callable[..., Checkup]) -> None:
    one = checkup(brightness)
    assert (one.level, one.words) == ("ok", "it scores; there are no recorded values yet")
    assert len(one.values) == len(golden_batch("given"))


def test_a_reward_that_fails_is_a_problem_with_its_reason(checkup: Callable[..., Checkup]) -> None:
    def fail(_: ScoreBatch) -> ScoreResult:
        raise RuntimeError("the service is gone")

    one = checkup(fail)
    assert (one.level, one.words) == ("problem", "the given reward failed: RuntimeError: the service is gone")
    assert one.load_seconds is not None


def test_a_reward_that_runs_out_of_memory_is_a_problem(checkup: Callable[..., Checkup]) -> None:
    def exhaust(_: ScoreBatch) -> ScoreResult:
        raise torch.OutOfMemoryError("tried to allocate 2 GiB")

    assert "tried to allocate 2 GiB" in checkup(exhaust).words


def test_a_reward_that_hangs_costs_its_time_and_the_others_are_tried(
    checkup: Callable[..., Checkup], monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    monkeypatch.setattr(doctor_rewards, "LOAD_SECONDS", 0.2)
    monkeypatch.setattr(doctor_rewards, "SCORE_SECONDS", 0.2)
    loading = checkup(brightness, lambda: over.wait(30))
    assert (loading.level, loading.words) == ("problem", "it did not load within 0.2 s")

    def hang(batch: ScoreBatch) -> ScoreResult:
        over.wait(30)
        return brightness(batch)

    scoring = checkup(hang)
    assert (scoring.level, scoring.words) == ("problem", "it did not score the images within 0.2 s")
    over.set()


def test_a_reward_whose_weights_are_not_here_is_noted_and_nothing_is_fetched(options: Options) -> None:
    (one,) = examine_rewards(replace(options, offline=False), ["lpips_ref:vgg"])
    assert (one.level, one.load_seconds) == ("note", None)
    assert "MB" in one.words


def test_embedded_weights_that_are_missing_are_a_problem(options: Options, tmp_path: Path) -> None:
    (one,) = examine_rewards(replace(options, weights=tmp_path), ["quality"])
    assert one.level == "problem"
    assert "quality" in one.words


def test_the_command_prints_a_table_or_json_and_ends_as_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: ScoreBatch) -> ScoreResult:
        raise RuntimeError("gone")

    entry = Entry(lambda *_: CARD, lambda *_: Given(fail))
    monkeypatch.setattr(registry, "names", lambda: ["quality", "given"])
    monkeypatch.setitem(registry.REGISTRY, "given", entry)
    command = ["doctor", "--rewards", "--home", str(tmp_path)]
    table = CliRunner().invoke(cli, command)
    assert table.exit_code == 1
    header, quality, given = table.output.splitlines()
    assert header.split() == ["reward", "load", "image"]
    assert quality.startswith("ok    quality ") and quality.endswith("as recorded, within 0.002")
    assert given.startswith("BAD   given ") and given.endswith("RuntimeError: gone")
    monkeypatch.setattr(registry, "names", lambda: ["quality"])
    machine = CliRunner().invoke(cli, [*command, "--json"])
    assert machine.exit_code == 0
    (one,) = json.loads(machine.output)
    assert (one["name"], one["level"], len(one["values"])) == ("quality", "ok", 8)

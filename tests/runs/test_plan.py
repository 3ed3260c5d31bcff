"""The plan of a run: what it takes on which base, and what is said where something is not known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from flowgrpo.config import RunConfig
from flowgrpo.runs import plan as module
from flowgrpo.runs.plan import Plan, Wishes, lines, make_plan
from flowgrpo.runs.probe import Probe
from flowgrpo.runs.worker import WEIGHTS
from storage import checkpoints
from storage.engine import Database
from storage.models import Checkpoint
from tests.runs.helpers import tiny_config

GPU = Wishes(device="cuda", teraflops=100.0, rate=2.0)


@pytest.fixture
def tiny(db: Database, pipeline: Path) -> Checkpoint:
    return checkpoints.register_base(db, name="tiny", source=str(pipeline), family="sdxl")


def planned(db: Database, base: str, wishes: Wishes, **changes: Any) -> Plan:
    return make_plan(db, RunConfig.model_validate(tiny_config(**changes)), base, WEIGHTS, wishes)


def test_a_base_that_is_here_is_measured(db: Database, tiny: Checkpoint) -> None:
    plan = planned(db, tiny.name, Wishes(rate=3600.0))
    assert plan.measured is not None
    assert plan.seconds is not None
    assert plan.cost == pytest.approx(plan.seconds)
    words = "\n".join(lines(plan))
    assert "tiny on CPU, float32. Nothing was started." in words
    assert "measured on 3 images" in words
    assert plan.fits


def test_nothing_is_loaded_where_nothing_shall_be_measured(db: Database, tiny: Checkpoint) -> None:
    plan = planned(db, tiny.name, Wishes(probes=False))
    assert (plan.measured, plan.seconds, plan.cost) == (None, None, None)
    assert "time    not known" in "\n".join(lines(plan))


def test_a_published_base_on_a_gpu_that_is_not_here_has_memory_operations_and_a_price(db: Database) -> None:
    rollout = {"group_size": 4, "groups_per_update": 2, "num_steps": 8, "width": 256, "height": 256}
    update = {"micro_batch_size": 1}
    plan = planned(db, "sd15", GPU, rollout=rollout, update=update, lora={"rank": 8})
    assert (plan.device, plan.precision, plan.free_memory) == ("a GPU that is not here", "bfloat16", None)
    assert 1.7e9 < plan.memory.resident["network"] < 1.8e9
    assert plan.seconds is not None
    assert plan.seconds == pytest.approx(plan.operations / 1e14)
    assert plan.cost == pytest.approx(plan.seconds / 3600 * 2)
    # SD 1.5 takes 0.8 T operations an evaluation at 512 x 512, and a quarter of the pixels fewer than a third
    assert 0.1e12 < plan.operations / plan.work.evaluations < 0.3e12


def test_an_unknown_base_names_what_there_is(db: Database, tiny: Checkpoint) -> None:
    with pytest.raises(LookupError, match=r"named nothing; there are tiny; published bases are flux"):
        planned(db, "nothing", Wishes())


def test_what_does_not_fit_is_told_with_a_way_out(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_free_memory", lambda device: 1)
    plan = planned(db, tiny.name, Wishes())
    assert not plan.fits
    assert plan.measured is None  # what does not fit is not tried
    assert "It does not fit into memory: halve update.micro_batch_size" in "\n".join(lines(plan))


def test_the_plan_of_programs_has_all_of_it(db: Database, tiny: Checkpoint) -> None:
    said = planned(db, tiny.name, Wishes(probes=False)).to_json()
    assert said["memory"]["peak_bytes"] == max(said["memory"]["during"].values())
    assert {"work", "operations", "disk", "free_disk", "seconds", "fits", "cost", "evaluations"} <= set(said)


def test_a_device_that_nobody_makes_and_a_reward_that_is_not_here_are_named(
    db: Database, tiny: Checkpoint, tmp_path: Path
) -> None:
    with pytest.raises(LookupError, match="there is no device gpu: name auto, cpu or cuda:0"):
        planned(db, tiny.name, Wishes(device="gpu"))
    config = RunConfig.model_validate(tiny_config(reward_weights={"clip": 1.0}))
    with pytest.raises(LookupError, match=r"the clip reward needs .*which is not in this copy"):
        make_plan(db, config, tiny.name, tmp_path, Wishes(probes=False))


def test_a_micro_batch_that_takes_all_memory_is_told_with_a_way_out(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starve(*_: object) -> Probe:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(module, "probe", starve)
    with pytest.raises(ValueError, match=r"on one micro-batch: halve update\.micro_batch_size"):
        planned(db, tiny.name, Wishes())

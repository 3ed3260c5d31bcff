"""A measured micro-batch, and how long a whole run follows from it to take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from flowgrpo.config import RunConfig
from flowgrpo.rewards.fetch import Options
from flowgrpo.runs.probe import Probe, duration_of, probe
from flowgrpo.runs.worker import WEIGHTS
from tests.runs.helpers import tiny_config
from tests.runs.test_stage1 import pictures, settings

__all__ = ["pictures"]
MEASURED = Probe(
    4, loading=7.0, rollout=2.0, reward=1.0, update=3.0, saving=0.5, peak_bytes=1, checkpoint_bytes=1
)


def config_of(**changes: Any) -> RunConfig:
    return RunConfig.model_validate(tiny_config(**changes))


@pytest.mark.parametrize("algorithm", ["flow_grpo", "nft", "dpo"])
def test_every_phase_of_a_micro_batch_is_measured(pipeline: Path, algorithm: str) -> None:
    config = config_of(algorithm={"name": algorithm})
    measured = probe(config, str(pipeline), {}, torch.device("cpu"), Options(WEIGHTS))
    assert measured.images == config.rollout.group_size
    seconds = (measured.loading, measured.rollout, measured.reward, measured.update, measured.saving)
    assert min(seconds) > 0
    assert measured.checkpoint_bytes > 0
    assert measured.peak_bytes > 100 * 2**20


def test_a_micro_batch_of_given_pictures_has_no_rewards(pipeline: Path, pictures: Path) -> None:
    config = config_of(**settings(pictures))
    measured = probe(config, str(pipeline), {}, torch.device("cpu"), Options(WEIGHTS))
    duration = duration_of(config, measured)
    assert duration.update["update"] > 0
    assert duration.total > measured.loading


def test_a_run_takes_its_groups_calibration_grids_and_checkpoints() -> None:
    config = config_of(num_updates=4, checkpoint_every=2, sample_every=2, samples=2)  # 2 groups of 3
    duration = duration_of(config, MEASURED)
    assert duration.update == {"rollout": 2 * 6 / 4, "reward": 1 * 6 / 4, "update": 3 * 6 / 4}
    calibration, grids, checkpoints = 6 * 3, 3 * 2, 2
    others = 7 + 0.5 * checkpoints + (2 + 1) * (calibration + grids) / 4
    assert duration.total == pytest.approx(4 * 9 + others)


def test_two_updates_a_rollout_sample_half_as_often() -> None:
    config = config_of(update={"updates_per_rollout": 2})
    assert duration_of(config, MEASURED).update == {"rollout": 1.5, "reward": 0.75, "update": 4.5}

"""Runs, plans and rewards on this machine's device."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from flowgrpo.config import RunConfig
from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.stack import EMBEDDED, load_stack
from flowgrpo.runs.device import describe
from flowgrpo.runs.plan import Wishes, make_plan
from flowgrpo.runs.train import run_attempt
from flowgrpo.runs.worker import WEIGHTS
from storage import checkpoints
from storage.engine import Database
from tests.device.conftest import needs_gpu
from tests.runs.conftest import db
from tests.runs.helpers import adapter_hashes, begin, new_run, tiny_config

__all__ = ["db"]


@pytest.mark.parametrize("precision", ["auto", pytest.param("float16", marks=needs_gpu)])
def test_a_run_learns_to_its_end(db: Database, sdxl: Path, device: torch.device, precision: str) -> None:
    parent = checkpoints.register_base(db, name="tiny", source=str(sdxl), family="sdxl")
    run = begin(db, new_run(db, parent, update={"precision": precision}))
    run_attempt(db.home, run.id, str(device), WEIGHTS, threading.Event())
    assert adapter_hashes(db, run, 4)


@needs_gpu
def test_every_embedded_reward_scores_as_on_the_cpu(device: torch.device) -> None:
    images = torch.randint(0, 256, (8, 3, 64, 64), generator=torch.Generator().manual_seed(0)).byte()

    def scores(where: str) -> dict[str, torch.Tensor]:
        batch = ScoreBatch(images, ["red hair, blue background"] * 8, [0] * 4 + [1] * 4)
        return {
            name: result.values for name, result in load_stack(EMBEDDED, WEIGHTS, where).score(batch).items()
        }

    here, there = scores(str(device)), scores("cpu")
    for name in EMBEDDED:
        torch.testing.assert_close(here[name], there[name], atol=2e-3, rtol=2e-3)


def test_a_plan_measures_there(db: Database, sdxl: Path, device: torch.device) -> None:
    checkpoints.register_base(db, name="tiny", source=str(sdxl), family="sdxl")
    plan = make_plan(db, RunConfig.model_validate(tiny_config()), "tiny", WEIGHTS, Wishes(device="auto"))
    assert plan.device == describe(device)
    assert plan.measured is not None
    assert plan.measured.peak_bytes > 0
    assert plan.free_memory
    assert plan.fits

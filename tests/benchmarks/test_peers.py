"""What the benchmark of peers makes of its measurements."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch

from benchmarks.peers.compare import Race, reward_lines, update_lines
from benchmarks.peers.environment import TRL_VERSION, requirements
from benchmarks.peers.side import REWARDS, Work


def test_a_task_arrives_at_the_other_side_as_it_was_sent() -> None:
    work = Work("pipeline", "sd15", ("red hair", "a smile"), ("blue hair",), seed=3, guidance=1.0)
    assert Work.read(json.dumps(asdict(work))) == work


def test_ratios_are_medians_of_turns_against_the_last_side() -> None:
    turns = [
        [{"seconds": ours, "cpu": ours}, {"seconds": 1.0, "cpu": 1.5}, {"seconds": 2.0, "cpu": 2.0}]
        for ours in (1.0, 1.2, 9.0)
    ]
    memory = [{"peak": peak, "imported": 100e6} for peak in (300e6, 500e6, 600e6)]
    lines = update_lines("an update", turns, memory)
    assert [line.value for line in lines] == pytest.approx(
        [1.2, 2.0, 0.6, 0.6, 0.75, 300, 600, 0.5, 0.4, 0.8]
    )
    assert [line.is_kept for line in lines if line.budget] == [True, True, True, True]


def test_a_race_that_ours_never_wins_misses_its_third() -> None:
    won = reward_lines("TRL", [Race(0.1, 100.0, 20.0), Race(0.3, 100.0, 30.0), Race(0.2, 50.0, 5.0)])
    assert [line.value for line in won[:4:3]] == pytest.approx([0.2, 0.2])
    assert won[3].is_kept
    lost = reward_lines("TRL", [Race(0.1, 100.0, 20.0), Race(0.1, 100.0, float("inf"))])
    assert lost[3].is_kept is False


def test_the_rewards_of_the_races_prefer_what_they_are_named_for() -> None:
    noise = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    red = torch.zeros(3, 16, 16)
    red[0] = 1.0
    images = torch.stack([noise, red, torch.ones(3, 16, 16)])
    scores = {name: reward(images) for name, reward in REWARDS.items()}
    assert scores["bright"].argmax() == 2
    assert scores["warm"].argmax() == 1
    assert scores["compressible"].argmin() == 0


def test_both_environments_have_the_same_torch_and_diffusers() -> None:
    wanted = requirements()
    assert wanted[0] == f"trl=={TRL_VERSION}"
    assert f"torch=={torch.__version__.partition('+')[0]}" in wanted

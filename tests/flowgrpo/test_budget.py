"""Memory and disk of a run before it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from flowgrpo.budget import GIB, Beside, disk_of, memory_of
from flowgrpo.choices import NFT, SFT
from flowgrpo.config import LoraConfig, RolloutConfig, RunConfig, UpdateConfig
from flowgrpo.published import architecture
from flowgrpo.sizes import Sizes

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


@pytest.fixture(scope="module")
def sd15() -> Sizes:
    return Sizes(architecture("sd15"), LoraConfig(rank=16, targets=ATTENTION), torch.bfloat16)


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> Sizes:
    return Sizes(architecture(tiny_folder), LoraConfig(rank=4))


def config_of(side: int = 32, **update: Any) -> RunConfig:
    return RunConfig(
        prompts=("a",), reward_weights={"clip": 1.0},
        rollout=RolloutConfig(group_size=4, width=side, height=side),
        update=UpdateConfig(**{"micro_batch_size": 1} | update),
    )  # fmt: skip


def test_a_gpu_needs_room_for_what_stays_and_the_largest_phase(sd15: Sizes) -> None:
    memory = memory_of(sd15, config_of(512), Beside(rewards=7, scoring=GIB // 4), on_gpu=True)
    held = memory.resident
    assert 1.5 * GIB < held["network"] + held["vae"] < 2.2 * GIB
    assert memory.peak == sum(held.values()) + max(memory.phases.values())
    assert memory.phases["update"] > memory.phases["rollout"]
    assert memory.phases["words"] == 2 * 123_060_480
    assert "text encoders" not in held
    assert memory.peak < 8 * GIB


def test_on_a_cpu_what_a_phase_has_freed_is_not_there_for_the_next(tiny: Sizes) -> None:
    memory = memory_of(tiny, config_of(), Beside(process=GIB), on_gpu=False)
    assert memory.peak == sum(memory.resident.values()) + sum(memory.phases.values())
    assert memory.during["decode"] - memory.during["rollout"] == memory.phases["decode"]
    assert memory.resident["process"] == GIB
    assert memory.resident["text encoders"] == 4 * tiny.base.text_parameters


def test_half_a_micro_batch_takes_less_and_a_micro_batch_is_at_most_a_group(tiny: Sizes) -> None:
    peaks = [memory_of(tiny, config_of(micro_batch_size=n), on_gpu=True).peak for n in (1, 2, 4, 32)]
    assert peaks[0] < peaks[1] < peaks[2] == peaks[3]


def test_the_moments_in_eight_bits_take_a_quarter(tiny: Sizes) -> None:
    whole, small = (
        memory_of(tiny, config_of(optimizer=name), on_gpu=True).resident["optimiser"]
        for name in ("adamw", "adamw_8bit")
    )
    assert whole == 4 * small


def test_all_weights_that_learn_are_counted_once_with_gradients_and_moments(tiny_folder: Path) -> None:
    sizes = Sizes(architecture(tiny_folder), None)
    config = RunConfig(
        prompts=("a",), algorithm=SFT(folder="pictures", batch_size=2), lora=None,
        update=UpdateConfig(kl_weight=0), rollout=RolloutConfig(width=32, height=32),
    )  # fmt: skip
    memory = memory_of(sizes, config, on_gpu=True)
    count = sum(parameter.numel() for parameter in sizes.base.build_network().parameters())
    assert memory.resident["network"] == 0
    assert memory.resident["adapter"] == 4 * count
    assert memory.resident["optimiser"] == 8 * count
    assert set(memory.phases) == {"words", "encode", "update"}


def test_a_run_writes_weights_their_average_and_moments_at_each_checkpoint() -> None:
    config = config_of().model_copy(update={"num_updates": 45, "checkpoint_every": 20, "samples": 4})
    disk = disk_of(config, learned_bytes=1000)
    assert (disk.num_checkpoints, disk.checkpoint) == (3, 4000)
    assert disk.num_pictures == 4 * (1 + 5)
    assert disk.total == 12_000 + 24 * disk.picture
    other = config.model_copy(update={"algorithm": NFT()})
    assert disk_of(other, learned_bytes=1000).checkpoint == 5000

"""Presets validate, are found by name, and say where they come from."""

from __future__ import annotations

import re

import pytest

from flowgrpo.config import RunConfig
from flowgrpo.presets import D_FLUX_720, D_SD15_512, D_SD35_512, PRESETS, STARTER_PRESETS
from flowgrpo.work import held_steps, images_of

SOURCE = re.compile(r"Source: (?:ours|arXiv \d{4}\.\d{5}|[\w-]+/[\w-]+)")
PUBLISHED = ("flow_grpo", "Flow-GRPO-Fast", "DanceGRPO", "MixGRPO", "DiffusionNFT", "AWM", "DDPO")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_whole_configuration_with_a_source(name: str) -> None:
    preset = PRESETS[name]
    config = preset(("red hair",))
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config
    assert SOURCE.search(" ".join((preset.__doc__ or "").split())), preset


def test_the_announced_presets_are_there_by_name() -> None:
    assert set(PUBLISHED) < set(PRESETS)
    assert {"SSD-1B, 24 GB", "SSD-1B, 16 GB", "smoke", "fast and faithful", "thorough"} < set(PRESETS)
    assert set(STARTER_PRESETS) < set(PRESETS)


def test_the_thorough_preset_makes_as_many_images_of_more_prompts_and_is_held_at_more_steps() -> None:
    short, long = (STARTER_PRESETS[name](("red hair",)) for name in ("fast and faithful", "thorough"))
    assert images_of(long) == images_of(short)
    assert long.rollout.groups_per_update > short.rollout.groups_per_update
    assert held_steps(long) > held_steps(short)


@pytest.mark.parametrize(
    ("name", "clip", "elements"),
    [
        ("flow_grpo", 1e-4, D_SD35_512),
        ("Flow-GRPO-Fast", 1e-5, D_SD35_512),
        ("DanceGRPO", 1e-4, D_FLUX_720),
        ("MixGRPO", 1e-4, D_FLUX_720),
        ("DDPO", 1e-4, D_SD15_512),
    ],
)
def test_a_published_clip_is_met_at_the_preset_s_own_resolution(
    name: str, clip: float, elements: int
) -> None:
    config = PRESETS[name](("red hair",))
    channels = {D_SD35_512: 16, D_FLUX_720: 16, D_SD15_512: 4}[elements]
    assert channels * (config.rollout.width // 8) * (config.rollout.height // 8) == elements
    assert config.update.clip_nats / elements == pytest.approx(clip)


def test_published_presets_keep_to_published_statistics() -> None:
    for name in PUBLISHED:
        config = PRESETS[name](("red hair",))
        assert config.advantages.std in ("global", "group", "running")
        assert not config.advantages.diversity
        assert config.lora is not None

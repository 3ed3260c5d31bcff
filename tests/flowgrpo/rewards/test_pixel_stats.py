from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.pixel_stats import PixelStats, statistics
from flowgrpo.rewards.safety import SafetyGate
from flowgrpo.starter.damage import degrade


def test_a_flat_grey_image_has_nothing_of_anything() -> None:
    found = statistics(torch.full((1, 3, 16, 16), 128, dtype=torch.uint8))
    assert all(found[name].item() == 0 for name in ("saturation", "clipped", "total variation", "sharpness"))


def test_a_checkerboard_has_the_largest_variation_and_is_all_clipped() -> None:
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 255
    found = statistics(board.to(torch.uint8).expand(1, 3, 16, 16).contiguous())
    assert found["total variation"].item() == 1
    assert found["clipped"].item() == 1


@pytest.mark.parametrize("statistic", ["total variation", "jpeg bits", "sharpness"])
def test_noise_raises_what_grain_raises(statistic: str, renders: tuple[Tensor, list[str]]) -> None:
    images = renders[0]
    means = [
        statistics(degrade(images, "noise", torch.full((24,), level), torch.Generator().manual_seed(0)))[
            statistic
        ].mean()
        for level in (0.0, 0.3, 1.0)
    ]
    assert means[0] < means[1] < means[2]


def test_a_monitor_shows_all_its_statistics(renders: tuple[Tensor, list[str]]) -> None:
    reward = PixelStats()
    result = reward.score(ScoreBatch(renders[0][:2], renders[1][:2], [0, 0]))
    assert reward.spec.kind == "monitor"
    assert set(result.details) == {
        "saturation", "contrast", "sharpness", "clipped", "total variation", "jpeg bits",
    }  # fmt: skip
    assert torch.equal(result.values, result.details["saturation"])


def test_the_safety_gate_lets_portraits_through(renders: tuple[Tensor, list[str]]) -> None:
    gate = SafetyGate()
    values = gate.score(ScoreBatch(renders[0], renders[1], [0] * 24)).values
    assert gate.spec.kind == "gate" and gate.spec.threshold == 0.5
    assert ((values > gate.spec.threshold) & (values <= 1)).all()

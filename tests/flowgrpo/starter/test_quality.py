from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.quality import QualityReward
from flowgrpo.starter.damage import DEGRADATIONS, degrade
from flowgrpo.starter.dataset import Portraits
from flowgrpo.starter.features import load_backbone, taps_of
from flowgrpo.starter.quality import load_quality, train_quality
from tests.untrained import portraits

SEED = 5


@pytest.fixture(scope="module")
def renders() -> torch.Tensor:
    torch.set_num_threads(1)
    return portraits(96, seed=3)[0][:, 0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, renders: torch.Tensor) -> Path:
    folder = tmp_path_factory.mktemp("quality")
    data = Portraits(renders[:72], [{} for _ in range(72)], torch.zeros(72, 7, dtype=torch.int64))
    train_quality(data, folder, num_images=72, steps=150)
    return folder


def test_the_taps_are_those_of_the_networks_first_implementation() -> None:
    """Means and standard deviations as `efficientnet-lite-pytorch` 0.1.0 gives them with the same weights."""
    image = torch.linspace(0, 255, 3 * 64 * 64).round().byte().reshape(1, 3, 64, 64)
    taps = taps_of(image, smooth=False)
    means = [-0.502926, 1.557079, 0.414515, -0.263950, 0.021581]
    stds = [7.156499, 7.866974, 6.907060, 5.559721, 1.534306]
    assert [tap.mean().item() for tap in taps] == pytest.approx(means, abs=1e-4)
    assert [tap.std().item() for tap in taps] == pytest.approx(stds, abs=1e-4)


def test_the_backbone_is_loaded_once_and_never_learns() -> None:
    assert load_backbone() is load_backbone()
    assert not any(parameter.requires_grad for parameter in load_backbone().parameters())


@pytest.mark.parametrize("name", sorted(DEGRADATIONS))
def test_severity_zero_changes_nothing_and_more_changes_more(name: str, renders: torch.Tensor) -> None:
    images = renders[:8]
    changes = [
        (degrade(images, name, torch.full((8,), s), torch.Generator().manual_seed(SEED)).float() - images)
        .abs()
        .mean()
        .item()
        for s in (0.0, 0.3, 1.0)
    ]
    assert changes[0] <= 0.05
    assert changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("name", sorted(DEGRADATIONS))
def test_quality_falls_with_damage(name: str, trained: Path, renders: torch.Tensor) -> None:
    reward = QualityReward(trained)
    images = renders[72:]
    means = []
    for severity in (0.0, 1.0):
        damaged = degrade(images, name, torch.full((24,), severity), torch.Generator().manual_seed(SEED))
        means.append(reward.score(ScoreBatch(damaged, ["portrait"] * 24, [0] * 24)).values.mean().item())
    assert means[0] > means[1] + 0.1


def test_nothing_is_gained_beyond_the_best_clean_renders(trained: Path) -> None:
    head = load_quality(trained)
    assert head(torch.randn(200, 1024) * 50).max() <= head.ceiling


def test_the_report_lies_beside_the_weights(trained: Path) -> None:
    config = json.loads((trained / "config.json").read_text())
    assert {f"{name}/spearman" for name in DEGRADATIONS} <= set(config["measured"])
    assert config["features"] == "efflite0"


def test_a_ladder_of_generated_images_is_learned_and_measured(tmp_path: Path, renders: torch.Tensor) -> None:
    data = Portraits(renders[:72], [{} for _ in range(72)], torch.zeros(72, 7, dtype=torch.int64))
    worse = degrade(renders[:24], "warp", torch.full((24,), 0.8), torch.Generator().manual_seed(SEED))
    report = train_quality(data, tmp_path, ladder=[renders[:24], worse], num_images=72, steps=150)
    assert report["generated 0 over 1/pairs"] > 0.8
    assert all(value == value for value in report.values())


def test_the_same_seed_trains_the_same_head(tmp_path: Path, trained: Path, renders: torch.Tensor) -> None:
    data = Portraits(renders[:72], [{} for _ in range(72)], torch.zeros(72, 7, dtype=torch.int64))
    train_quality(data, tmp_path, num_images=72, steps=150)
    for name, tensor in load_quality(tmp_path).state_dict().items():
        assert torch.equal(tensor, load_quality(trained).state_dict()[name])


def test_a_missing_head_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=r"quality\.safetensors"):
        load_quality(tmp_path)

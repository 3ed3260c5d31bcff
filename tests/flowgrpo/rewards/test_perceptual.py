from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.perceptual import CAP, LONELY, DiversityReward, distance
from flowgrpo.starter.damage import degrade


def test_an_image_is_at_no_distance_from_itself(renders: tuple[Tensor, list[str]]) -> None:
    assert distance(renders[0], renders[0]).max() == 0


@pytest.mark.parametrize("name", ["blur", "warp", "ghost", "patches", "coarse"])
def test_more_damage_is_further_away(name: str, renders: tuple[Tensor, list[str]]) -> None:
    images = renders[0]
    means = []
    for severity in (0.1, 0.4, 1.0):
        damaged = degrade(
            images, name, torch.full((len(images),), severity), torch.Generator().manual_seed(0)
        )
        means.append(distance(images, damaged).mean().item())
    assert means == sorted(means)
    assert means[0] < means[-1]


def test_noise_that_nobody_sees_earns_little(renders: tuple[Tensor, list[str]]) -> None:
    images = renders[0]
    noisy = degrade(images, "noise", torch.full((len(images),), 0.04), torch.Generator().manual_seed(0))
    assert distance(images, noisy).mean() < 0.3 * distance(images, images.roll(1, 0)).mean()


def test_distance_is_symmetric_and_capped(renders: tuple[Tensor, list[str]]) -> None:
    images = renders[0]
    there, back = distance(images, images.roll(1, 0)), distance(images.roll(1, 0), images)
    torch.testing.assert_close(there, back)
    assert there.max() <= CAP


def test_a_group_of_copies_has_no_diversity(renders: tuple[Tensor, list[str]]) -> None:
    copies = renders[0][:1].expand(4, -1, -1, -1).contiguous()
    result = DiversityReward().score(ScoreBatch(copies, ["portrait"] * 4, [3] * 4))
    assert result.values.abs().max() < 1e-5


def test_diversity_is_the_distance_to_the_nearest_neighbour_of_the_own_group(
    renders: tuple[Tensor, list[str]],
) -> None:
    images = renders[0][:6]
    groups = [0, 1, 0, 1, 0, 1]
    values = DiversityReward().score(ScoreBatch(images, ["portrait"] * 6, groups)).values
    for i in range(6):
        others = [j for j in range(6) if j != i and groups[j] == groups[i]]
        nearest = min(distance(images[i : i + 1], images[j : j + 1]).item() for j in others)
        assert values[i].item() == pytest.approx(nearest, abs=1e-4)


def test_an_image_alone_in_its_group_is_not_scored(renders: tuple[Tensor, list[str]]) -> None:
    result = DiversityReward().score(ScoreBatch(renders[0][:3], ["portrait"] * 3, [0, 0, 1]))
    assert result.reasons == (None, None, LONELY)
    assert result.values.isnan().tolist() == [False, False, True]

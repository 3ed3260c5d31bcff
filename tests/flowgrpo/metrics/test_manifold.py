"""Precision and recall on sets whose answer is plain."""

from __future__ import annotations

import pytest
import torch

from flowgrpo.metrics.manifold import precision, recall


def spread(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))


def test_a_set_lies_in_its_own_manifold() -> None:
    rows = spread(30, 0)
    assert precision(rows, rows).mean() == 1
    assert recall(rows, rows).mean() == 1


def test_what_is_far_away_has_neither() -> None:
    assert precision(spread(20, 1) + 100, spread(20, 2)).sum() == 0
    assert recall(spread(20, 1) + 100, spread(20, 2)).sum() == 0


def test_a_collapsed_model_is_precise_and_recalls_little() -> None:
    reference = spread(200, 3)
    collapsed = reference[:1] + 0.01 * spread(50, 4)
    assert precision(collapsed, reference).mean() > 0.9
    assert recall(collapsed, reference).mean() < 0.1


def test_a_ball_reaches_to_the_third_neighbour_and_its_rim_counts() -> None:
    reference = torch.tensor([[0.0], [1.0], [2.0], [3.0], [20.0]])  # radii 3, 2, 2, 3 and 19
    assert precision(torch.tensor([[-3.0], [-3.1], [39.0], [39.1]]), reference).tolist() == [1, 0, 1, 0]


def test_three_images_have_no_three_neighbours_each() -> None:
    with pytest.raises(ValueError, match="more than 3 images"):
        precision(spread(5, 5), spread(3, 6))

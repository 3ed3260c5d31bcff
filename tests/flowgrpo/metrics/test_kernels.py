"""MMD against its definition, and its permutation test against chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from flowgrpo.metrics.intervals import Drawn, draws
from flowgrpo.metrics.kernels import SquaredMMD, median_distance, permutation_p, standardised


def gaussian_rows(*shape: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) + shift


def test_the_squared_mmd_is_that_of_its_definition_without_pairs_of_one_prompt() -> None:
    features, reference = gaussian_rows(5, 2, 3, seed=0), gaussian_rows(9, 3, seed=1, shift=0.3)
    x, y = standardised(features, reference), standardised(reference, reference)
    width = median_distance(y)

    def kernel(a: Tensor, b: Tensor) -> float:
        return math.exp(-float((a - b).square().sum()) / (2 * width**2))

    pairs = [(p, q) for p in range(5) for q in range(5) if p != q]
    xx = np.mean([kernel(a, b) for p, q in pairs for a in x[p] for b in x[q]])
    yy = np.mean([kernel(y[i], y[j]) for i in range(9) for j in range(9) if i != j])
    xy = np.mean([kernel(a, b) for a in x.flatten(0, 1) for b in y])
    found = SquaredMMD(reference).distances(features, draws(5))
    assert found[0] == pytest.approx(xx + yy - 2 * xy, rel=1e-6)


def test_the_median_distance_is_that_of_all_pairs() -> None:
    rows = gaussian_rows(40, 5, seed=2).double()
    assert median_distance(rows) == pytest.approx(float(torch.pdist(rows).median()), rel=1e-6)


def test_the_distance_of_a_shift_is_clear_and_grows() -> None:
    measured = SquaredMMD(gaussian_rows(200, 8, seed=3))
    figures = [
        Drawn(measured.distances(gaussian_rows(64, 4, 8, seed=4, shift=shift), draws(64)), 64, 64).figure()
        for shift in (0.0, 0.3, 1.0)
    ]
    assert figures[0].low <= 0 <= figures[0].high
    assert 0 < figures[1].low < figures[1].value < figures[2].low


def test_more_seeds_of_the_same_prompts_are_not_more_prompts() -> None:
    """Copies of the images of each prompt change neither the distance nor its interval."""
    measured, features = SquaredMMD(gaussian_rows(100, 4, seed=5)), gaussian_rows(20, 1, 4, seed=6)
    one, four = (measured.distances(features.repeat(1, times, 1), draws(20)) for times in (1, 4))
    np.testing.assert_allclose(one, four, atol=1e-9)


def test_a_p_value_is_small_by_chance_as_often_as_it_says() -> None:
    chances = [
        permutation_p(gaussian_rows(20, 4, seed=2 * i), gaussian_rows(30, 4, seed=2 * i + 1))
        for i in range(60)
    ]
    assert 0.3 < np.mean(chances) < 0.7
    assert np.mean([chance <= 0.05 for chance in chances]) < 0.16


def test_a_p_value_is_small_for_another_distribution() -> None:
    shifted = gaussian_rows(40, 4, seed=7, shift=1.0)
    assert permutation_p(shifted, gaussian_rows(60, 4, seed=8)) == pytest.approx(1 / 1001)

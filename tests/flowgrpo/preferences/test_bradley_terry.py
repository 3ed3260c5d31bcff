"""Strengths agree with libraries that fit the same model, and stay finite."""

from __future__ import annotations

import choix
import numpy as np
import pytest

from flowgrpo.preferences.bradley_terry import fit, sigmoid


def drawn(num_pairs: int, truth: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    first = rng.integers(0, len(truth), num_pairs)
    second = (first + rng.integers(1, len(truth), num_pairs)) % len(truth)
    won = rng.random(num_pairs) < sigmoid(truth[first] - truth[second])
    return first, second, won.astype(float)


def test_the_strengths_are_those_of_choix_under_the_same_prior() -> None:
    first, second, share = drawn(300, np.array([-1.0, 0.0, 0.5, 2.0]))
    ours = fit(first, second, share, np.ones(300), 4, ridge=0.1)
    games = [(i, j) if won else (j, i) for i, j, won in zip(first, second, share, strict=True)]
    # choix.opt_pairwise minimises the same loss with alpha * |s|^2 in place of ridge / 2 * |s|^2
    theirs = choix.opt_pairwise(4, games, alpha=0.05, tol=1e-10)
    assert ours == pytest.approx(theirs - theirs.mean(), abs=1e-4)
    assert ours.sum() == pytest.approx(0, abs=1e-9)


def test_a_weight_counts_as_so_many_comparisons_and_a_tie_as_half_a_win_each() -> None:
    first, second = np.array([0, 0, 1]), np.array([1, 1, 2])
    twice = fit(first, second, np.array([1.0, 0.0, 1.0]), np.ones(3), 3, ridge=0.3)
    once = fit(np.array([0, 1]), np.array([1, 2]), np.array([0.5, 1.0]), np.array([2.0, 1.0]), 3, ridge=0.3)
    assert twice == pytest.approx(once)


@pytest.mark.parametrize("ridge", [1.0, 1e-3])
def test_the_undefeated_and_the_unseen_stay_finite(ridge: float) -> None:
    wins = np.zeros(1000, dtype=np.int64)
    found = fit(wins, wins + 1, np.ones(1000), np.ones(1000), 3, ridge)
    assert np.isfinite(found).all() and found[0] > 1 and found[2] == pytest.approx(0)
    none = np.zeros(0, dtype=np.int64)
    assert fit(none, none, np.zeros(0), np.zeros(0), 2, ridge) == pytest.approx([0, 0])

"""Groups are asked about that would teach the most."""

from __future__ import annotations

import numpy as np
import pytest

from flowgrpo.preferences.active import priorities, priority

RNG = np.random.default_rng(0)


def test_alike_images_and_single_ones_teach_nothing() -> None:
    features = np.tile(RNG.normal(size=5), (4, 1))
    assert priority(np.ones(5), np.eye(5), features) == pytest.approx(0, abs=1e-9)
    assert priority(np.ones(5), np.eye(5), features[:1]) == pytest.approx(0, abs=1e-9)


def test_what_is_decided_and_what_is_known_teach_less() -> None:
    apart = np.array([[1.0, 0.0], [-1.0, 0.0]])
    undecided = priority(np.zeros(2), np.eye(2), apart)
    assert undecided == pytest.approx(0.25 * 4)
    assert priority(np.array([3.0, 0.0]), np.eye(2), apart) < 0.1 * undecided
    assert priority(np.zeros(2), np.diag([0.01, 1.0]), apart) == pytest.approx(0.01 * undecided)


def test_the_most_telling_pair_of_a_group_counts_and_more_images_never_less() -> None:
    mean, root = RNG.normal(size=6), RNG.normal(size=(6, 6))
    features = RNG.normal(size=(8, 6))
    covariance = root @ root.T
    pairs = [priority(mean, covariance, features[[i, j]]) for i in range(8) for j in range(i)]
    assert priority(mean, covariance, features) == pytest.approx(max(pairs))
    found = priorities(mean, covariance, {"all": features, "some": features[:4]})
    assert found["all"] >= found["some"] > 0


def test_one_answer_takes_away_about_that_share_of_the_variance() -> None:
    """Against the exact update of a Gaussian posterior by one answer's Fisher information."""
    mean, covariance = 0.3 * RNG.normal(size=4), 0.01 * np.eye(4)
    pair = RNG.normal(size=(2, 4))
    x = pair[0] - pair[1]
    p = 1 / (1 + np.exp(-x @ mean))
    after = np.linalg.inv(np.linalg.inv(covariance) + p * (1 - p) * np.outer(x, x))
    fall = 1 - (x @ after @ x) / (x @ covariance @ x)
    assert priority(mean, covariance, pair) == pytest.approx(fall, rel=0.05)

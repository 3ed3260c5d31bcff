"""An interval of 95% holds the truth 95 times of 100, also where votes on one prompt go together."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from flowgrpo.preferences.intervals import ratio_by_cluster, student, wilson


def test_the_quantiles_of_student_are_those_of_scipy() -> None:
    for freedom in (4, 7, 20, 100):
        assert student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=3e-3)


def test_wilsons_interval_is_that_of_scipy() -> None:
    theirs = stats.binomtest(7, 30).proportion_ci(method="wilson")
    assert wilson(7, 30) == pytest.approx((7 / 30, theirs.low, theirs.high), abs=1e-5)
    assert all(math.isnan(end) for end in wilson(0, 0))


@pytest.mark.parametrize("num_clusters", [12, 60])
def test_the_interval_of_a_share_covers_it_although_votes_of_one_prompt_go_together(
    num_clusters: int,
) -> None:
    covered = 0
    for trial in range(200):
        rng = np.random.default_rng(trial)
        shares = rng.beta(3.0, 2.0, num_clusters)
        to = rng.integers(2, 9, num_clusters).astype(float)
        found = ratio_by_cluster(rng.binomial(to.astype(int), shares).astype(float), to, seed=trial)
        covered += found.low <= 0.6 <= found.high
    assert 0.915 <= covered / 200 <= 0.985


def test_agreement_of_all_clusters_is_no_certainty() -> None:
    ones = np.ones(10)
    assert ratio_by_cluster(ones, ones) == (1, 1, 1)
    assert ratio_by_cluster(ones, ones, trials=10).low == pytest.approx(wilson(10, 10).low)
    assert all(math.isnan(end) for end in ratio_by_cluster(ones * 0, ones * 0))

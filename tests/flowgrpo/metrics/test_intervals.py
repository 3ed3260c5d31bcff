"""Intervals by prompt: against closed forms, and at the edges of what has one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.coverage import SHAPES, covered_by_means
from flowgrpo.metrics.intervals import (
    MIN_PROMPTS,
    NUM_RESAMPLES,
    Drawn,
    draws,
    mean_of,
    resamples,
    with_error,
)  # fmt: skip


def test_the_bootstrap_is_seeded_and_starts_with_the_data() -> None:
    counts = resamples(7, seed=3)
    assert counts.shape == (1 + NUM_RESAMPLES, 7)
    assert (counts.sum(1) == 7).all()
    assert (counts[0] == 1).all()
    assert (counts == resamples(7, seed=3)).all()


def test_the_last_draws_leave_one_prompt_out_each() -> None:
    assert (draws(4)[-4:] == 1 - np.eye(4)).all()


def test_the_interval_of_a_mean_is_scipys_bca_where_prompts_are_many() -> None:
    column = np.random.default_rng(0).exponential(size=400)
    found = mean_of(column, draws(400)).figure()
    other = stats.bootstrap((column,), np.mean, method="BCa", n_resamples=5_000, rng=1).confidence_interval
    width = other.high - other.low
    assert found.value == pytest.approx(column.mean())
    assert found.low == pytest.approx(other.low, abs=0.08 * width)
    assert found.high == pytest.approx(other.high, abs=0.08 * width)


def test_few_prompts_get_about_students_interval_and_not_a_narrower_one() -> None:
    column = np.random.default_rng(1).normal(size=10)
    found = mean_of(column, draws(10)).figure()
    half = stats.t.ppf(0.975, 9) * column.std(ddof=1) / 10**0.5
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.12)


def test_the_intervals_of_skewed_shares_hold_the_truth_95_times_in_100() -> None:
    assert 91 <= covered_by_means(SHAPES["shares near one"], repeats=300, seed=0) <= 98


def test_a_difference_of_a_model_to_itself_is_exactly_nothing() -> None:
    one = mean_of(np.random.default_rng(2).normal(size=20), draws(20))
    assert one.minus(one).figure() == (0, 0, 0)
    assert not one.minus(one).figure().is_clear


def test_one_prompt_has_a_number_and_no_interval() -> None:
    found = mean_of(np.array([0.5, np.nan]), draws(2)).figure()
    assert found.value == 0.5
    assert math.isnan(found.low) and math.isnan(found.high)


@pytest.mark.parametrize("number", [2, 5])
def test_below_six_prompts_there_is_a_number_and_nothing_is_clear(number: int) -> None:
    column = np.array([*np.linspace(1, 2, number), np.nan, np.nan])
    found = mean_of(column, draws(len(column))).figure()
    assert found.value == pytest.approx(1.5)
    assert math.isnan(found.low) and math.isnan(found.high) and not found.is_clear
    assert math.isnan(with_error(np.linspace(1, 2, 50), number).low)


@pytest.mark.parametrize("number", [MIN_PROMPTS, 12])
def test_where_nothing_differs_about_one_in_twenty_differences_is_clear(number: int) -> None:
    rng, counts = np.random.default_rng(0), [draws(number, seed) for seed in range(10)]
    clear = [mean_of(rng.normal(size=number), counts[i % 10]).figure().is_clear for i in range(600)]
    assert 0.03 <= np.mean(clear) <= 0.09


def test_a_column_without_numbers_has_no_figure() -> None:
    assert math.isnan(mean_of(np.full(3, np.nan), draws(3)).figure().value)


def test_equal_prompts_have_an_interval_without_width() -> None:
    assert mean_of(np.full(6, 2.0), draws(6)).figure() == (2, 2, 2)


def test_an_interval_moves_and_stretches_with_its_data() -> None:
    column, counts = np.random.default_rng(3).gamma(1.0, size=30), draws(30)
    plain, moved = mean_of(column, counts).figure(), mean_of(3 * column + 1, counts).figure()
    assert moved == pytest.approx([3 * end + 1 for end in plain])


def test_a_shifted_resample_moves_no_interval_of_with_error() -> None:
    values = np.concatenate([[1.0], np.random.default_rng(4).normal(5, 0.1, 200)])
    low, high = with_error(values, 64)[1:]
    assert low < 1 < high
    assert high - low == pytest.approx(2 * 2.0 * 0.1, rel=0.15)


def test_draws_without_a_number_are_left_out() -> None:
    values = mean_of(np.arange(10.0), draws(10)).values.copy()
    values[5] = np.nan
    assert math.isfinite(Drawn(values, 10, 10).figure().low)

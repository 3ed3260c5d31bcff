"""What stays of many backups: enough of each age, never more than said, the same when done step by step."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from storage.rotation import Retention, kept

START = datetime(2026, 1, 31, 22, 30, tzinfo=UTC)
TIMES = st.lists(
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)), max_size=80
)
RETENTIONS = st.builds(Retention, st.integers(1, 20), st.integers(0, 30), st.integers(0, 20))


@given(TIMES, RETENTIONS)
def test_the_newest_stay_and_no_more_than_said(times: list[datetime], retention: Retention) -> None:
    chosen = kept(times, retention)
    assert set(sorted(set(times))[-retention.newest :]) <= chosen <= set(times)
    assert len(chosen) <= retention.most


@given(TIMES, RETENTIONS)
def test_what_stays_stays_when_it_is_thinned_again(times: list[datetime], retention: Retention) -> None:
    chosen = kept(times, retention)
    assert kept(chosen, retention) == chosen


@given(st.integers(1, 40), st.integers(50, 200))
def test_thinning_after_each_one_leaves_what_thinning_once_would_have_left(minutes: int, number: int) -> None:
    times = [START + timedelta(minutes=minutes * step) for step in range(number)]
    retention = Retention(newest=6, hours=8, days=3)
    step_by_step: set[datetime] = set()
    for time in times:
        step_by_step = kept(step_by_step | {time}, retention)
    assert step_by_step == kept(times, retention)


def test_a_day_of_five_minutes_leaves_the_last_hour_and_each_hour_before() -> None:
    times = [START + timedelta(minutes=5 * step) for step in range(24 * 12)]
    chosen = sorted(kept(times, Retention()), reverse=True)
    assert chosen[:12] == times[:-13:-1]
    ages = [(chosen[0] - time) / timedelta(hours=1) for time in chosen]
    assert max(later - earlier for earlier, later in itertools.pairwise(ages)) <= 1

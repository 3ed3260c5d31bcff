"""From a new studio to a blind preference, by what the pages offer and without reading anything."""

from __future__ import annotations

import pytest

from benchmarks import newcomer
from tests.browser.interrupting import NEEDS_STARTER

SEEDS = "4021"
"""The same images each time: how sure the win is with others says `python -m benchmarks.newcomer`."""
pytestmark = [NEEDS_STARTER, pytest.mark.slow]


@pytest.mark.timeout(1800)
def test_a_newcomer_rates_what_was_drawn_learns_from_it_and_prefers_the_outcome_blind() -> None:
    preferred, _ = newcomer.once(SEEDS)
    assert preferred >= newcomer.MIN_PREFERRED

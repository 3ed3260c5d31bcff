"""Show 2 of issue 4: rewards of scales 0.3, 6 and 21 have an equal say by our rule, and not in a raw sum."""

from __future__ import annotations

import pytest

from benchmarks.combination import EQUAL, MARGIN, RULES, correlations, planted


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rule", [name for name in RULES if not name.startswith("raw_sum")])
def test_by_every_rule_that_normalises_three_unlike_rewards_have_an_equal_say(rule: str, seed: int) -> None:
    assert max(abs(one - EQUAL) for one in correlations(planted(seed), RULES[rule])) < MARGIN


@pytest.mark.parametrize("rule", [name for name in RULES if name.startswith("raw_sum")])
def test_in_a_raw_sum_the_largest_scale_says_it_all(rule: str) -> None:
    small, middle, large = correlations(planted(0), RULES[rule])
    assert small < 0.1
    assert middle < 0.4
    assert large > 0.9

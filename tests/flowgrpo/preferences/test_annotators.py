"""Who judges by place, by chance or by haste can be seen, each by the measure meant for it."""

from __future__ import annotations

import numpy as np

from flowgrpo.preferences.annotators import annotators, position_bias
from flowgrpo.preferences.votes import Vote

IMAGES = tuple("abcdefgh")


def best(who: str, group: int, place: int, lead_ms: int | None = None) -> Vote:
    return Vote(who, str(group), f"p{group}", "best", IMAGES, IMAGES[place], lead_ms=lead_ms)


def test_a_place_that_is_chosen_too_often_is_seen() -> None:
    rng = np.random.default_rng(0)
    fair = [best("ann", n, int(rng.integers(8))) for n in range(200)]
    lazy = [best("ann", n, 0 if rng.random() < 0.3 else int(rng.integers(8))) for n in range(200)]
    (one,), (other,) = position_bias(fair), position_bias(lazy)
    assert one.p_value is not None and one.p_value > 0.05 and one.first.low < one.expected < one.first.high
    assert other.p_value is not None and other.p_value < 0.01 and other.first.low > other.expected
    assert sum(one.counts) == 200 and len(one.counts) == one.places == 8


def test_chance_alone_looks_biased_as_rarely_as_it_should() -> None:
    found = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        found.append(position_bias([best("ann", n, int(rng.integers(8))) for n in range(40)])[0].p_value)
    assert 0.01 <= np.mean([one is not None and one < 0.05 for one in found]) <= 0.09


def test_the_bias_of_pairs_is_that_of_the_left() -> None:
    def pair(outcome: str, n: int) -> Vote:
        payload = {"left": "a", "right": "b", "outcome": outcome}
        return Vote("ann", str(n), "p", "pair", IMAGES, payload=payload)

    votes = [pair(outcome, n) for n, outcome in enumerate(["left"] * 60 + ["right"] * 20 + ["tie"] * 9)]
    (one,) = position_bias(votes)
    assert (one.kind, one.places, one.counts, one.expected) == ("pair", 2, [60, 20], 0.5)
    assert one.first.value == 0.75 and one.first.low > 0.6


def test_each_annotator_is_seen_as_they_are() -> None:
    rng, votes = np.random.default_rng(1), list[Vote]()
    for number in range(60):
        truth = int(rng.integers(8))
        votes += [best(who, number, truth, lead_ms=4000) for who in ("ann", "bob", "cid")]
        votes.append(best("random", number, int(rng.integers(8)), lead_ms=300))
    votes += [Vote("cid", str(number), f"p{number}", "skip", IMAGES) for number in range(3)]
    votes.append(Vote("ann", "0", "p0", "best", IMAGES, votes[0].image, is_repeat=True))
    seen = {one.annotator: one for one in annotators(votes)}
    assert seen["ann"].consensus is not None and seen["ann"].consensus.value > 0.9
    assert seen["random"].consensus is not None and seen["random"].consensus.high < 0.75
    assert (seen["ann"].median_lead_ms, seen["random"].median_lead_ms) == (4000, 300)
    assert (seen["cid"].num_skips, seen["cid"].num_votes, seen["bob"].num_skips) == (3, 57, 0)
    assert seen["ann"].consistency is not None and seen["ann"].consistency.value == 1
    assert seen["bob"].consistency is None
    first = seen["bob"].first
    assert first is not None and abs(first) < 0.15


def test_who_judges_alone_has_no_consensus_to_agree_with() -> None:
    (one,) = annotators([best("ann", number, 0) for number in range(5)])
    assert one.consensus is None and one.median_lead_ms is None and one.first == 1 - 1 / 8

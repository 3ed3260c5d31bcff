"""Planted strengths are found, their intervals hold them, and what cannot be said is not said."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from flowgrpo.preferences.leaderboard import ELO_PER_NAT, Leaderboard, Match, Outcome, leaderboard

NAMES = ("base", "weak", "good", "best")
TRUTH = np.array([0.0, -0.4, 0.5, 1.0])


def votes(
    seed: int, prompts: int = 40, per_pair: int = 3, taste: float = 0.0, ties: float = 0.1
) -> list[Match]:
    """`taste`: std of how much better than usual an entry is at a prompt, which ties the votes on it."""
    rng = np.random.default_rng(seed)
    found: list[Match] = []
    for prompt in range(prompts):
        strengths = TRUTH + taste * rng.normal(size=4)
        for a, b in combinations(range(4), 2):
            for _ in range(per_pair):
                won = rng.random() < 1 / (1 + np.exp(strengths[b] - strengths[a]))
                outcome: Outcome = "tie" if rng.random() < ties else "first" if won else "second"
                found.append(Match(str(prompt), NAMES[a], NAMES[b], outcome))
    return found


def ratings(board: Leaderboard) -> dict[str, tuple[float, float, float]]:
    return {one.name: one.rating for one in board.entries if one.rating is not None}


def test_planted_strengths_are_recovered() -> None:
    board = leaderboard(votes(0, prompts=300, ties=0.0), NAMES, "base")
    assert [one.name for one in board.entries] == ["best", "good", "base", "weak"]
    found = ratings(board)
    for name, truth in zip(NAMES, TRUTH, strict=True):
        assert found[name][0] == pytest.approx(1000 + ELO_PER_NAT * truth, abs=35)
    assert found["base"] == pytest.approx((1000, 1000, 1000))
    assert (board.num_votes, board.num_prompts) == (5400, 300)
    assert not any(one.preliminary for one in board.entries)


def test_the_intervals_hold_the_strengths_95_times_of_100() -> None:
    # With a taste that changes from prompt to prompt the strengths over all prompts are flatter than planted.
    taste = 0.8
    many = leaderboard(votes(999, prompts=3000, per_pair=1, taste=taste), NAMES, "base", resamples=2)
    truth = ratings(many)
    covered: list[bool] = []
    for trial in range(50):
        board = leaderboard(votes(trial, taste=taste), NAMES, "base", resamples=200, seed=trial)
        covered += [
            low <= truth[name][0] <= high for name, (_, low, high) in ratings(board).items() if name != "base"
        ]
    assert 0.91 <= np.mean(covered) <= 0.99  # 150 of them, not all independent


def test_resampling_votes_instead_of_prompts_would_be_too_sure() -> None:
    together = votes(3, per_pair=6, taste=1.5)
    apart = [Match(str(n), one.first, one.second, one.outcome) for n, one in enumerate(together)]
    boards = [ratings(leaderboard(said, NAMES, "base"))["best"] for said in (together, apart)]
    wide, narrow = (high - low for _, low, high in boards)
    assert wide > 1.3 * narrow


def test_who_never_lost_stays_finite_and_is_not_known_exactly() -> None:
    board = leaderboard([Match(str(n), "best", "base", "first") for n in range(12)], ("base", "best"), "base")
    first = board.entries[0]
    assert first.name == "best" and first.preliminary and first.rating is not None
    assert 1200 < first.rating.value < 3000 and first.rating.high - first.rating.low > 300
    assert first.win_rate is not None and first.win_rate.value == 1 and first.win_rate.low < 0.8


def test_a_lucky_few_do_not_lead() -> None:
    many = [Match(str(n % 40), "good", "base", "first" if n % 4 else "second") for n in range(200)]
    few = [Match(str(n), "best", "base", "first") for n in range(3)]
    board = leaderboard([*many, *few], ("base", "good", "best"), "base")
    values = {one.name: one.rating.value for one in board.entries if one.rating}
    assert values["best"] > values["good"] and board.entries[0].name == "good"


def test_what_no_chain_of_votes_connects_with_the_base_is_not_comparable() -> None:
    said = [Match("p", "good", "best", "first"), Match("q", "weak", "base", "tie")]
    board = leaderboard(said, NAMES, "base")
    known = {one.name: one.rating is not None for one in board.entries}
    assert known == {"base": True, "weak": True, "good": False, "best": False}
    assert [one.rating is None for one in board.entries] == [False, False, True, True]
    assert board.entries[-1].win_rate is not None


def test_the_matrix_counts_wins_ties_and_both_bad() -> None:
    said: list[Outcome] = ["first", "first", "second", "tie", "bad"]
    board = leaderboard([Match("p", "good", "base", one) for one in said], ("base", "good"), "base")
    assert board.wins == {("good", "base"): 2, ("base", "good"): 1}
    assert board.ties[("good", "base")] == board.ties[("base", "good")] == 2
    assert board.bad == {("good", "base"): 1, ("base", "good"): 1}


def test_without_votes_there_is_a_board_and_no_claim() -> None:
    board = leaderboard([], ("base", "good"), "base")
    assert [(one.rating is None, one.win_rate, one.preliminary) for one in board.entries] == [
        (False, None, True), (True, None, True),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="expected a base"):
        leaderboard([], ("good",), "base")

"""Votes become comparisons that count what was said once, and one number per image that was judged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from flowgrpo.preferences.votes import Comparison, Kind, Vote, comparisons, group_scores, latest

IMAGES = ("a", "b", "c", "d")


def vote(
    kind: Kind, image: str | None = None, value: int | None = None, *, who: str = "ann", group: str = "g",
    is_repeat: bool = False, **payload: Any,
) -> Vote:  # fmt: skip
    return Vote(who, group, f"prompt of {group}", kind, IMAGES, image, value, payload, is_repeat=is_repeat)


def stars(*values: int, who: str = "ann", group: str = "g") -> list[Vote]:
    return [
        vote("stars", image, value, who=who, group=group)
        for image, value in zip(IMAGES, values, strict=False)
    ]


def pairs(votes: Sequence[Vote]) -> list[tuple[str, str, float, bool]]:
    return [(one.winner, one.loser, one.weight, one.tie) for one in comparisons(votes)]


def test_the_best_of_four_beats_each_other_one_at_half_a_weight() -> None:
    assert pairs([vote("best", "b")]) == [("b", one, 0.5, False) for one in "acd"]


def test_an_act_pulls_as_hard_as_plackett_and_luces_first_choice_at_equal_strengths() -> None:
    for size in (2, 4, 8, 16):
        images = tuple(map(str, range(size)))
        said = comparisons([Vote("ann", "g", "p", "best", images, "0")])
        assert sum(one.weight / 2 for one in said) == pytest.approx(1 - 1 / size)


def test_a_ranking_is_a_row_of_choices_and_its_ties_are_ties() -> None:
    assert pairs([vote("rank", order=[["c"], ["a", "b"]])]) == [
        ("c", "a", 2 / 3, False),
        ("c", "b", 2 / 3, False),
        ("a", "b", 1.0, True),
    ]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ("left", ("a", "b", 1.0, False)),
        ("right", ("b", "a", 1.0, False)),
        ("tie", ("a", "b", 1.0, True)),
        ("bad", ("a", "b", 1.0, True)),
    ],
)
def test_a_pair_counts_once(outcome: str, expected: tuple[str, str, float, bool]) -> None:
    assert pairs([vote("pair", left="a", right="b", outcome=outcome)]) == [expected]


def test_a_flagged_image_loses_to_those_that_are_not() -> None:
    said = [vote("flags", "a", flags=["broken"]), vote("flags", "b", flags=["other"])]
    expected = [(sound, bad, 2 / 3, False) for bad in "ab" for sound in "cd"]
    assert pairs(said) == expected
    assert pairs([vote("flags", flags=["unsafe"])]) == []


def test_an_annotator_who_always_gives_the_same_says_nothing() -> None:
    others = stars(1, 5, 3, 2, who="bob")
    assert {one.annotator for one in comparisons([*stars(4, 4, 4, 4), *others])} == {"bob"}
    assert comparisons(stars(3, 3, 3)) == []


def test_stars_are_read_by_the_habit_of_who_gives_them() -> None:
    """One uses 2 and 3 alone, one the whole scale: a star of the first means more."""
    narrow = [one for number in range(20) for one in stars(2, 3, 2, 3, who="ann", group=f"a{number}")]
    wide = [one for number in range(20) for one in stars(1, 5, 2, 4, who="bob", group=f"b{number}")]
    weight = {(one.annotator, one.winner, one.loser): one.weight for one in comparisons([*narrow, *wide])}
    assert weight["ann", "b", "a"] == 2 / 4  # one star apart, the most that a choice among four weighs
    assert weight["bob", "b", "a"] == 2 / 4  # four stars apart
    assert 0.2 < weight["bob", "b", "d"] < 0.4  # one star apart


def test_the_latest_word_counts_a_skip_takes_all_back_and_a_repeat_is_no_vote() -> None:
    first, second = vote("best", "a"), vote("best", "b")
    assert latest([first, second])["ann", "g"] == [second]
    assert latest([first, vote("skip")]) == {}
    assert latest([first, vote("skip"), second])["ann", "g"] == [second]
    assert latest([first, vote("best", "b", is_repeat=True)])["ann", "g"] == [first]
    turned = vote("pair", left="b", right="a", outcome="left")
    assert latest([vote("pair", left="a", right="b", outcome="left"), turned])["ann", "g"] == [turned]


def test_everything_said_about_a_group_becomes_one_number_per_image_that_was_judged() -> None:
    scores = group_scores([vote("pair", left="a", right="b", outcome="right"), *stars(2, 5, 3, group="h")])
    assert list(scores["g"]) == ["a", "b"] and scores["g"]["b"] > 0 > scores["g"]["a"]
    assert scores["h"]["b"] > scores["h"]["c"] > scores["h"]["a"] and set(scores["h"]) == {"a", "b", "c"}
    assert all(sum(one.values()) == pytest.approx(0, abs=1e-6) for one in scores.values())
    assert group_scores([vote("flags", flags=["unsafe"])]) == {}
    assert group_scores(stars(3, 3)) == {"g": {"a": 0.0, "b": 0.0}}


def test_the_score_of_a_group_is_that_of_everybody() -> None:
    one = group_scores([vote("best", "a")])["g"]
    three = group_scores([vote("best", "a", who=who) for who in ("ann", "bob", "cid")])["g"]
    split = group_scores([vote("best", "a", who="ann"), vote("best", "b", who="bob")])["g"]
    assert three["a"] > one["a"] > split["a"]
    assert split["a"] == pytest.approx(split["b"]) and split["c"] == pytest.approx(split["d"])


def test_planted_tastes_are_recovered_from_noisy_choices() -> None:
    """Annotators choose the best of four by Plackett and Luce; the comparisons find the strengths' order."""
    rng, truth = np.random.default_rng(0), np.array([0.0, 0.7, 1.4, 2.1])
    wins: dict[tuple[str, str], float] = defaultdict(float)
    for number in range(2000):
        choice = rng.choice(4, p=np.exp(truth) / np.exp(truth).sum())
        for one in comparisons([vote("best", IMAGES[choice], group=str(number))]):
            wins[one.winner, one.loser] += one.weight
    for low, high in pairwise(IMAGES):
        odds = np.log(wins[high, low] / wins[low, high])
        assert odds == pytest.approx(0.7, abs=0.2)


def test_comparisons_name_group_prompt_and_annotator() -> None:
    (one,) = comparisons([vote("pair", left="a", right="b", outcome="left")])
    assert one == Comparison("g", "prompt of g", "ann", "a", "b", 1.0)

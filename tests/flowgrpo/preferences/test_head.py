"""A head finds the taste behind choices, in the blocks where it lies, and knows how sure it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy import ndarray

from flowgrpo.preferences import head
from flowgrpo.preferences.votes import Comparison

BLOCKS = (12, 30, 3)
SIZE = 8


def embeddings(num_groups: int, seed: int = 0) -> ndarray:
    """Random images, the first of whose blocks is far larger in scale than the others."""
    rng = np.random.default_rng(seed)
    plain: ndarray = rng.normal(size=(num_groups * SIZE, sum(BLOCKS)))
    plain *= np.repeat([100.0, 1.0, 0.01], BLOCKS)
    return plain


def chosen(liked: ndarray, *, one_prompt: bool = False) -> tuple[list[Comparison], dict[str, int], list[str]]:
    """The best of each group over the others, as `votes.comparisons` gives them."""
    found, groups = [], [str(number // SIZE) for number in range(len(liked))]
    for number in range(len(liked) // SIZE):
        rows = list(range(number * SIZE, (number + 1) * SIZE))
        best = max(rows, key=lambda row: liked[row])
        prompt = "all" if one_prompt else f"prompt {number}"
        found += [
            Comparison(str(number), prompt, "ann", str(best), str(row), 2 / SIZE)
            for row in rows
            if row != best
        ]
    return found, {str(row): row for row in range(len(liked))}, groups


def fitted(num_groups: int, liked: ndarray, features: ndarray) -> tuple[head.Head, head.Data]:
    rows = slice(0, num_groups * SIZE)
    data = head.data_of(*chosen(liked[rows]))
    return head.fit(features[rows], BLOCKS, data), data


def pair_accuracy(guess: ndarray, liked: ndarray) -> float:
    groups = zip(guess.reshape(-1, SIZE), liked.reshape(-1, SIZE), strict=True)
    hits = [
        (mine[:, None] > mine)[theirs[:, None] > theirs].mean() for mine, theirs in groups
    ]  # fmt: skip
    return float(np.mean(hits))


@pytest.mark.parametrize("block", [0, 1, 2])
def test_a_taste_that_lies_in_one_block_is_found_there(block: int) -> None:
    features = embeddings(60)
    start = sum(BLOCKS[:block])
    liked = (features / features.std(0))[:, start]
    taste, _ = fitted(30, liked, features)
    unseen = slice(30 * SIZE, None)
    assert pair_accuracy(taste.utility(features[unseen]), liked[unseen]) > 0.8
    assert int(np.argmax(taste.variances)) == block


def test_more_choices_make_it_better_and_surer() -> None:
    features = embeddings(140)
    liked = (features / features.std(0)) @ np.random.default_rng(1).normal(size=sum(BLOCKS))
    unseen = slice(100 * SIZE, None)
    few, many = (fitted(n, liked, features)[0] for n in (10, 100))
    better, worse = (pair_accuracy(one.utility(features[unseen]), liked[unseen]) for one in (many, few))
    assert better > worse + 0.05
    doubts = [
        np.trace(one.covariance) / np.repeat(one.variances, one.basis.widths).sum() for one in (few, many)
    ]
    assert 0 < doubts[1] < doubts[0] < 1


def test_the_mode_is_where_the_gradient_vanishes() -> None:
    features = embeddings(12)
    liked = features[:, 0]
    taste, data = fitted(12, liked, features)
    shown = taste.basis(features)
    prior = np.repeat(taste.variances, taste.basis.widths)
    design = shown[data.first] - shown[data.second]
    p = 1 / (1 + np.exp(-design @ taste.weights))
    gradient = design.T @ (data.weight * (p - data.share)) + taste.weights / prior
    assert np.abs(gradient).max() < 1e-4


def test_held_out_accuracy_is_that_of_prompts_it_has_not_seen() -> None:
    features = embeddings(60)
    liked = (features / features.std(0))[:, 0]
    data = head.data_of(*chosen(liked))
    found = head.held_out_accuracy(features, BLOCKS, data)
    assert 0.8 < found.low < found.value < found.high <= 1.0


def test_a_rater_who_throws_dice_is_not_foreseen() -> None:
    features = embeddings(60)
    data = head.data_of(*chosen(np.random.default_rng(3).normal(size=len(features))))
    found = head.held_out_accuracy(features, BLOCKS, data)
    assert found.low < 0.5 < found.high
    assert head.trust(data.num_pairs, found.low) == 0.0


def test_of_one_prompt_nothing_can_be_held_out() -> None:
    features = embeddings(3)
    data = head.data_of(*chosen(features[:, 0], one_prompt=True))
    assert math.isnan(head.held_out_accuracy(features, BLOCKS, data).value)
    assert head.trust(data.num_pairs, math.nan) == 0.0


def test_ties_pull_their_images_together() -> None:
    features = embeddings(12)
    compared, row, groups = chosen((features / features.std(0))[:, 0])
    ties = [Comparison("0", "prompt 0", "bob", str(a), str(b), 1.0, tie=True) for a, b in ((0, 1),) * 20]
    without = head.fit(features, BLOCKS, head.data_of(compared, row, groups)).utility(features)
    tied = head.fit(features, BLOCKS, head.data_of([*compared, *ties], row, groups)).utility(features)
    assert abs(tied[0] - tied[1]) < abs(without[0] - without[1])


def test_comparisons_of_images_without_an_embedding_are_left_out() -> None:
    features = embeddings(4)
    compared, row, groups = chosen(features[:, 0])
    known = {name: place for name, place in row.items() if place < 16}
    assert len(head.data_of(compared, known, groups[:16]).first) == 14


def test_nothing_to_learn_from_is_said_so() -> None:
    with pytest.raises(ValueError, match="rate some groups first"):
        head.fit(embeddings(2), BLOCKS, head.data_of([], {}, ["0"] * 16))
    with pytest.raises(ValueError, match="blocks that sum to 45"):
        head.fit(embeddings(2), (1, 2), head.data_of(*chosen(embeddings(2)[:, 0])))


@given(pairs=st.integers(0, 2000), accuracy=st.floats(0, 1), since=st.integers(0, 1000))
def test_trust_is_a_share_that_grows_with_votes_and_accuracy_and_fades(
    pairs: int, accuracy: float, since: int
) -> None:
    value = head.trust(pairs, accuracy, since)
    assert 0 <= value <= 1
    assert value == 0 or pairs >= head.MIN_PAIRS
    assert head.trust(pairs + 100, accuracy, since) >= value
    assert head.trust(pairs, min(1.0, accuracy + 0.1), since) >= value
    assert head.trust(pairs, accuracy, since + 10) <= value


def test_its_version_changes_when_what_it_says_does() -> None:
    features = embeddings(12)
    one, again, other = (fitted(12, features[:, place], features)[0] for place in (0, 0, 1))
    assert one.version == again.version != other.version

"""Agreement is that of the literature, is silent where it would mislead, and repeats tell of oneself."""

from __future__ import annotations

import evalica
import numpy as np
import pandas as pd
import pytest

from flowgrpo.preferences import agreement
from flowgrpo.preferences.agreement import MIN_SHARED, agreements, between_people, consistency
from flowgrpo.preferences.votes import Vote

IMAGES = ("a", "b", "c", "d")


def best(who: str, group: str, image: str, is_repeat: bool = False) -> Vote:
    return Vote(who, group, f"p{group}", "best", IMAGES, image, is_repeat=is_repeat)


def pair(who: str, group: str, left: str, right: str, outcome: str) -> Vote:
    payload = {"left": f"{group}{left}", "right": f"{group}{right}", "outcome": outcome}
    return Vote(who, group, f"p{group}", "pair", IMAGES, payload=payload)


def test_the_alpha_of_a_published_example_is_found() -> None:
    """Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), example C: four observers."""
    nan = float("nan")
    table = pd.DataFrame(
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
            [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan],
        ]
    )
    assert evalica.alpha(table).alpha == pytest.approx(0.743, abs=5e-4)
    assert evalica.alpha(table, distance="ordinal").alpha == pytest.approx(0.815, abs=5e-4)


def test_those_who_agree_agree_and_those_who_guess_do_not() -> None:
    rng = np.random.default_rng(0)
    votes = []
    for number in range(80):
        truth = IMAGES[rng.integers(4)]
        for who in ("ann", "bob", "cid"):
            said = truth if rng.random() < 0.9 else IMAGES[rng.integers(4)]
            votes.append(best(who, str(number), said))
    found = {one.kind: one for one in agreements(votes)}["best"]
    assert found.num_shared == 80 and found.same is not None and found.alpha is not None
    # Two say the same with 0.925^2 + 3 * 0.025^2, and one time in four by chance: alpha is about 0.81.
    assert found.same.low < 0.857 < found.same.high and found.alpha.low < 0.81 < found.alpha.high < 0.95
    guesses = [best(who, str(n), IMAGES[rng.integers(4)]) for n in range(80) for who in ("ann", "bob")]
    chance = {one.kind: one for one in agreements(guesses)}["best"]
    assert chance.alpha is not None and chance.alpha.low < 0 < chance.alpha.high


def test_stars_near_each_other_agree_better_than_stars_far_apart() -> None:
    rng = np.random.default_rng(1)
    near, far = list[Vote](), list[Vote]()
    for number in range(60):
        value = int(rng.integers(1, 6))
        for votes, second in ((near, min(5, value + 1)), (far, 6 - value)):
            for who, given in (("ann", value), ("bob", second)):
                votes.append(Vote(who, str(number), "p", "stars", IMAGES, f"{number}/a", given))
    alphas = [{one.kind: one for one in agreements(votes)}["stars"].alpha for votes in (near, far)]
    assert alphas[0] is not None and alphas[1] is not None and alphas[0].value > 0.6 > 0 > alphas[1].value


def test_which_image_was_left_does_not_matter_for_a_pair() -> None:
    votes = [pair("ann", str(n), "x", "y", "left" if n % 2 else "right") for n in range(40)]
    votes += [pair("bob", str(n), "y", "x", "right" if n % 2 else "left") for n in range(40)]
    found = {one.kind: one for one in agreements(votes)}["pair"]
    assert found.same is not None and found.same.value == 1
    assert found.alpha is not None and found.alpha.value == 1


def test_alpha_is_not_shown_of_few_shared_items_nor_of_unanimity() -> None:
    few = [best(who, str(n), "a") for n in range(MIN_SHARED - 1) for who in ("ann", "bob")]
    few += [best("ann", f"alone {n}", "b") for n in range(100)]
    found = {one.kind: one for one in agreements(few)}
    assert found["best"].alpha is None and "29 groups" in found["best"].why_no_alpha
    assert found["best"].same is not None and found["best"].same.low < 1
    assert found["stars"].same is None and found["stars"].num_shared == 0
    many = [best(who, str(n), "a") for n in range(MIN_SHARED) for who in ("ann", "bob")]
    assert "everybody said the same" in {one.kind: one for one in agreements(many)}["best"].why_no_alpha


def starred(rng: np.random.Generator, num_groups: int, size: int) -> list[Vote]:
    """Two people; in half of the groups they see the images the same way, in the others they guess."""
    votes = []
    for group in range(num_groups):
        guesses = rng.random() < 0.5
        for image in range(size):
            value = int(rng.integers(1, 6))
            for who in ("ann", "bob"):
                given = int(rng.integers(1, 6)) if guesses else value
                votes.append(Vote(who, str(group), "p", "stars", IMAGES, f"{group}/{image}", given))
    return votes


def test_the_intervals_of_stars_hold_the_truth_though_images_of_a_group_go_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half of the groups agree: alpha is 0.5, and people say the same of 0.5 + 0.5 / 5 of the images."""
    monkeypatch.setattr(agreement, "_RESAMPLES", 60)
    rng, repeats, held, alike = np.random.default_rng(2), 40, 0, 0
    for repeat in range(repeats):
        stars = agreements(starred(rng, 40, 8), seed=repeat)[0]
        assert stars.alpha is not None and stars.same is not None
        held += stars.alpha.low <= 0.5 <= stars.alpha.high
        alike += stars.same.low <= 0.6 <= stars.same.high
    assert held / repeats >= 0.85 and alike / repeats >= 0.85


def test_many_images_of_few_groups_are_few() -> None:
    stars = agreements(starred(np.random.default_rng(3), MIN_SHARED - 1, 8))[0]
    assert stars.alpha is None and "29 groups" in stars.why_no_alpha
    assert (stars.num_shared, stars.num_groups) == (8 * (MIN_SHARED - 1), MIN_SHARED - 1)


def test_a_repeat_tells_whether_annotators_agree_with_themselves() -> None:
    votes = [best("ann", str(n), "a") for n in range(10)]
    votes += [best("ann", str(n), "a" if n < 8 else "b", is_repeat=True) for n in range(10)]
    votes += [best("bob", "0", "a"), best("bob", "9", "a", is_repeat=True)]
    found = consistency(votes)
    assert set(found) == {"ann"}
    assert found["ann"].value == 0.8 and found["ann"].low < 0.6


def test_two_answers_are_the_same_by_item_stars_one_apart_and_ranks_by_order() -> None:
    def said(is_repeat: bool, stars: tuple[int, int], order: list[list[str]]) -> list[Vote]:
        votes = [
            Vote("ann", "g", "p", "stars", IMAGES, image, value, is_repeat=is_repeat)
            for image, value in zip(IMAGES, stars, strict=False)
        ]
        return [*votes, Vote("ann", "g", "p", "rank", IMAGES, payload={"order": order}, is_repeat=is_repeat)]

    votes = [*said(False, (5, 1), [["a"], ["b"], ["c"]]), *said(True, (4, 3), [["b"], ["a", "c"]])]
    assert consistency(votes)["ann"].value == pytest.approx((1 + 0 + 0 + 0 + 1) / 5)


def test_every_two_people_are_compared_on_what_both_judged_and_on_nothing_else() -> None:
    said = {"ann": "aabb", "bob": "aaba", "cid": "bb"}
    votes = [best(who, str(n), image) for who, images in said.items() for n, image in enumerate(images)]
    votes += [pair("ann", "9", "a", "b", "left"), pair("bob", "9", "b", "a", "right"), best("dee", "77", "a")]
    found = {(two.one, two.other): two for two in between_people(votes)}
    assert set(found) == {("ann", "bob"), ("ann", "cid"), ("bob", "cid")}
    assert (found["ann", "bob"].num_shared, found["ann", "bob"].same.value) == (5, 4 / 5)
    assert (found["ann", "cid"].num_shared, found["ann", "cid"].same.value) == (2, 0.0)
    assert found["ann", "cid"].same.high > 0.3  # of two groups nobody knows much


def test_the_two_who_share_most_come_first_and_stars_of_one_group_count_as_one_group() -> None:
    stars = [
        Vote(who, group, f"p{group}", "stars", IMAGES, image, value=3)
        for who in ("ann", "bob")
        for group in "12"
        for image in IMAGES
    ]
    found = between_people([*stars, best("ann", "1", "a"), best("cid", "1", "a")])
    assert [(two.one, two.other, two.num_shared, two.num_groups) for two in found] == [
        ("ann", "bob", 8, 2), ("ann", "cid", 1, 1),
    ]  # fmt: skip
    assert found[0].same.value == 1.0 and found[0].same.low < 0.8

"""How often a reward wants what people want, on groups that they rated; weights apply later."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowgrpo.advantages import calibrate, combine
from flowgrpo.config import AdvantageConfig
from storage import groups, ratings
from storage.engine import Database
from storage.groups import GroupView, ImageView, ScoreInput
from storage.models import Checkpoint, Image, ImageGroup, Score
from storage.rated import RatedGroup, rated_groups
from storage.ratings import RatingInput
from storage.ratings_current import RatingsView
from tests.ui.conftest import MakeGroup
from ui.agreement import agreement, choices_of, interval, order, preferred, values_of, weighed
from ui.components.agree import agree_html
from ui.forms import Refused, check_weights
from ui.services import LOCAL_USER

Column = Sequence[float | None]


def view_of(
    *,
    best: int | None = None,
    stars: Sequence[int | None] = (),
    others: Sequence[RatingsView] = (),
    prompt: str = "red hair",
    **scores: Column,
) -> RatedGroup:
    """A group as the database would give it, with what one person says of it, and what others do."""
    size = max(map(len, [*scores.values(), stars]))
    images = []
    for index in range(size):
        given_ = {
            name: Score(image_id=str(index), reward=name, version="1", value=column[index])
            for name, column in scores.items()
        }
        images.append(ImageView(Image(id=str(index), index=index, width=8, height=8), given_, None, False))
    named = {str(index): value for index, value in enumerate(stars) if value is not None}
    said = RatingsView(stars=named, best=None if best is None else str(best))
    group = ImageGroup(id="g", seq=1, prompt=prompt)
    return RatedGroup(group, images, Checkpoint(id="c"), [said, *others])


def share(view: RatedGroup, values: Column) -> float | None:
    found = agreement("r", [view], [values])
    return None if found is None else found.share


def test_the_best_of_a_group_is_preferred_to_each_other_image() -> None:
    assert choices_of(view_of(best=1, r=[0.0] * 4)) == [(1, 0), (1, 2), (1, 3)]


def test_more_stars_are_preferred_to_fewer_and_equal_ones_are_no_choice() -> None:
    view = view_of(stars=[3, 5, 3, None])
    assert choices_of(view) == [(1, 0), (1, 2)]
    assert choices_of(view_of(stars=[4, 4, 4])) == []
    assert preferred(view) == {1}
    assert preferred(view_of(stars=[None, None])) == set()


def test_where_stars_contradict_the_best_the_best_counts_and_each_pair_once() -> None:
    assert choices_of(view_of(best=0, stars=[2, 5, 1])) == [(0, 1), (0, 2), (1, 2)]


def test_two_people_choose_each_on_their_own_scale() -> None:
    """Three stars of the one beside two of the other are no choice of anybody's."""
    other = RatingsView(stars={"1": 2, "2": 1})
    assert choices_of(view_of(stars=[3, None, None], others=[other])) == [(1, 2)]
    contrary = RatingsView(best="1")
    view = view_of(best=0, r=[0.0, 0.0], others=[contrary])
    assert choices_of(view) == [(0, 1), (1, 0)]
    assert preferred(view) == {0, 1}


def test_pairs_rankings_and_flags_are_choices_too() -> None:
    ranked = RatingsView(order=[["2"], ["0", "1"]])
    assert choices_of(view_of(r=[0.0] * 4, others=[ranked])) == [(2, 0), (2, 1)]
    assert preferred(view_of(r=[0.0] * 4, others=[ranked])) == {2}
    paired = RatingsView(pairs={("0", "1"): "right", ("2", "3"): "tie"})
    assert choices_of(view_of(r=[0.0] * 4, others=[paired])) == [(1, 0)]
    flagged = RatingsView(flags={"0": ["broken"], None: ["other"]})
    assert choices_of(view_of(r=[0.0] * 3, others=[flagged])) == [(1, 0), (2, 0)]


@given(st.lists(st.integers(1, 5), min_size=2, max_size=8), st.randoms(use_true_random=False))
def test_a_reward_and_its_opposite_share_the_choices_between_them(
    stars: list[int], chance: random.Random
) -> None:
    view = view_of(stars=stars)
    values = [chance.gauss(0, 1) for _ in stars]
    there, back = share(view, values), share(view, [-value for value in values])
    if len(set(stars)) == 1:
        assert there is back is None
    else:
        assert there is not None and back is not None
        assert there + back == pytest.approx(1)
        assert share(view, [0.7 for _ in stars]) == 0.5
        assert share(view, [float(star) for star in stars]) == 1


def test_an_image_without_a_score_is_not_asked_about() -> None:
    view = view_of(best=0, r=[0.9, None, 0.1])
    found = agreement("r", [view], [values_of(view, "r")])
    assert found is not None
    assert (found.share, found.pairs, found.groups) == (1.0, 1, 1)
    nobody = view_of(best=0, r=[None, 0.5, 0.1])
    assert agreement("r", [nobody], [values_of(nobody, "r")]) is None
    assert order([0.2, None, 0.9, 0.2]) == [2, 0, 3]


def test_an_interval_holds_the_share_narrows_with_prompts_and_needs_six() -> None:
    few = interval(tuple((5.0, 7) for _ in range(5)))
    assert few == (0.0, 1.0)
    chance = random.Random(3)
    tallies = tuple((float(sum(chance.random() < 0.7 for _ in range(7))), 7) for _ in range(60))
    low, high = interval(tallies)
    whole = sum(points for points, _ in tallies) / (7 * 60)
    assert 0.5 < low < whole < high < 0.85
    wide = interval(tallies[:8])
    assert wide[1] - wide[0] > high - low
    assert interval(tallies) == (low, high)


@pytest.mark.parametrize("size", [2, 8])
def test_a_reward_that_orders_by_chance_is_told_apart_from_it_about_once_in_twenty(size: int) -> None:
    """Eight prompts, the best of `size` images each: its place by such a reward is any."""
    chance, clear = random.Random(1), 0
    for _ in range(1000):
        tallies = tuple((float(chance.randrange(size)), size - 1) for _ in range(8))
        low, high = interval(tallies)
        clear += not low <= 0.5 <= high
    assert 25 <= clear <= 80  # the plain percentile bootstrap has 110


def test_prompts_that_all_agree_have_an_interval_with_a_width() -> None:
    low, high = interval(tuple((2.0, 2) for _ in range(7)))
    assert 0.7 < low < 0.85 and high == 1


def test_groups_of_one_prompt_are_resampled_together() -> None:
    """Twenty groups of one prompt are one prompt's evidence, however many choices they hold."""
    alike = [view_of(best=0, r=[1.0, 0.0]) for _ in range(20)]
    found = agreement("r", alike, [values_of(view, "r") for view in alike])
    assert found is not None
    assert (found.pairs, found.low, found.high) == (20, 0.0, 1.0)
    assert found.words == "agrees with 100% of 20 choices (too few prompts for an interval)"


@pytest.mark.parametrize("std", ["calibrated", "pooled"])
@pytest.mark.parametrize("seed", range(5))
def test_weighing_again_orders_every_group_as_the_update_does(
    seed: int, std: Literal["calibrated", "pooled"]
) -> None:
    generator = torch.Generator().manual_seed(seed)
    clip = 0.3 + 0.02 * torch.randn(5, 6, generator=generator)
    taste = 20 * torch.randn(5, 6, generator=generator)
    taste[1, 2], clip[3] = float("nan"), float("nan")
    rewards, weights = {"clip": clip, "taste": taste}, {"clip": 0.7, "taste": -0.3}

    def column(values: torch.Tensor) -> list[float | None]:
        return [None if value != value else value for value in values.double().tolist()]

    views = [view_of(clip=column(clip[g]), taste=column(taste[g])) for g in range(5)]
    ours = weighed(views, weights, is_pooled=std == "pooled")
    config = AdvantageConfig(std=std, diversity=False)
    theirs = combine(rewards, weights, calibrate(rewards), config=config, clip=100.0)
    flat = torch.tensor([float("nan") if v is None else v for row in ours for v in row]).reshape(5, 6)
    assert torch.equal(flat.isfinite(), theirs.is_counted)
    ratio = (theirs.values / flat)[theirs.is_counted]
    torch.testing.assert_close(ratio, ratio[0].expand(len(ratio)), rtol=1e-3, atol=0)


# On the page


def rated(db: Database, make_group: MakeGroup, number: int) -> GroupView:
    """A group whose best image by the people is the verifier's, and the last one by clip."""
    view = make_group([0.2, 0.8, 0.5], prompt=f"portrait {number} <b>", seeds=range(3))
    for image, value in zip(view.images, (0.3, 0.1, 0.2), strict=True):
        groups.add_scores(db, [ScoreInput(image.image.id, "clip", "1", value)])
    said = RatingInput(str(uuid.uuid4()), LOCAL_USER, view.group.id, "best", view.images[1].image.id)
    ratings.rate(db, said)
    return view


def test_the_page_says_how_often_each_reward_and_their_sum_agree(db: Database, make_group: MakeGroup) -> None:
    for number in range(7):
        rated(db, make_group, number)
    html = agree_html(rated_groups(db, 50), {"verifier": 0.9, "clip": 0.1, "quality": 0.0})
    assert "By these weights the sum agrees with 100% of 14 choices (78 to 100%)." in html
    assert "clip agrees with 0% of 14 choices (0 to 22%)" in html
    assert "quality" not in html
    assert "Chosen, place 1 by verifier" in html
    assert "Chosen, place 3 by clip" in html
    assert "<b>" not in html.replace("<b>100%", "").replace("<b>0%", "")


def test_weights_that_cannot_be_read_leave_the_rewards_alone(db: Database, make_group: MakeGroup) -> None:
    rated(db, make_group, 0)
    for typed in ({"verifier": 0.0}, {"verifier": "much"}):
        with pytest.raises(Refused):
            check_weights(typed)
        html = agree_html(rated_groups(db, 50), typed)
        assert "verifier agrees with 100% of 2 choices" in html
        assert "the sum" not in html


def test_where_nobody_rated_the_page_says_what_to_do(db: Database, make_group: MakeGroup) -> None:
    make_group()
    html = agree_html(rated_groups(db, 50), {"verifier": 1.0})
    assert "No group is rated yet" in html
    assert 'href="/rate"' in html
    rated(db, make_group, 1)
    assert "no scores of these rewards" in agree_html(rated_groups(db, 50), {"aesthetic": 1.0})

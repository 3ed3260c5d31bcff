"""Weights that people's choices were made with are found again, and judged on prompts that were not seen."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from flowgrpo.preferences import calibration
from flowgrpo.preferences.bradley_terry import sigmoid
from flowgrpo.preferences.calibration import calibrate, fit_weights, within_group_stds
from flowgrpo.preferences.votes import Comparison, Vote, comparisons

STDS = {"a": 0.3, "b": 6.0, "c": 21.0}
Rewards = dict[str, dict[str, float]]


def choices(taste: dict[str, float], seed: int = 0, groups: int = 120, sure: float = 3.0) -> list[Vote]:
    """The best of four by a taste in stds; each prompt has three groups."""
    rng, votes = np.random.default_rng(seed), list[Vote]()
    rewards = scores(seed, groups)
    for number in range(groups):
        images = tuple(f"{number}/{one}" for one in range(4))
        liked = [sure * sum(w * rewards[k][image] / STDS[k] for k, w in taste.items()) for image in images]
        best = int(np.argmax(np.array(liked) + rng.gumbel(size=4)))
        votes.append(Vote("ann", str(number), f"prompt {number // 3}", "best", images, images[best]))
    return votes


def scores(seed: int = 0, groups: int = 120) -> Rewards:
    rng = np.random.default_rng(1000 + seed)
    return {
        name: {f"{g}/{i}": float(std * rng.normal()) for g in range(groups) for i in range(4)}
        for name, std in STDS.items()
    }


def test_planted_weights_are_recovered_whatever_the_scales_of_the_rewards() -> None:
    taste = {"a": 0.6, "b": 0.3, "c": 0.1}
    found = calibrate(comparisons(choices(taste, groups=400)), scores(groups=400), STDS, {})
    assert found.weights == pytest.approx(taste, abs=0.08)
    assert sum(found.weights.values()) == pytest.approx(1)
    assert found.accuracy.value > 0.75 and found.accuracy.low > 0.7
    assert (found.num_comparisons, found.num_prompts) == (1200, 134)
    assert found.baseline is None and found.gain is None


def test_the_gain_over_the_weights_in_use_is_told_on_the_same_choices() -> None:
    found = calibrate(comparisons(choices({"a": 1.0})), scores(), STDS, {"b": 0.5, "c": 0.5})
    assert found.baseline is not None and found.gain is not None
    assert 0.35 < found.baseline.value < 0.65 < found.accuracy.low
    assert found.gain.value == pytest.approx(found.accuracy.value - found.baseline.value)
    assert found.gain.low > 0


def test_a_reward_that_people_dislike_gets_no_weight_unless_it_may_count_against() -> None:
    said = comparisons(choices({"a": 0.6, "b": -0.4}))
    assert calibrate(said, scores(), STDS, {}).weights["b"] == 0
    assert calibrate(said, scores(), STDS, {}, allow_negative=True).weights["b"] < -0.2


def test_choices_by_chance_are_foreseen_by_chance() -> None:
    accuracies = [
        calibrate(comparisons(choices({}, seed)), scores(seed), STDS, {}, allow_negative=True).accuracy
        for seed in range(30)
    ]
    assert np.mean([one.value for one in accuracies]) == pytest.approx(0.5, abs=0.03)
    assert sum(one.low > 0.5 for one in accuracies) <= 2
    assert sum(one.low <= 0.5 <= one.high for one in accuracies) >= 26


def test_no_prompt_is_both_learned_from_and_judged_by() -> None:
    prompts = [f"p{number % 11}" for number in range(100)]
    seen = set[str]()
    for out in calibration.folds(prompts, 0):
        held = {prompt for prompt, is_out in zip(prompts, out, strict=True) if is_out}
        assert held.isdisjoint(p for p, is_out in zip(prompts, out, strict=True) if not is_out)
        assert held.isdisjoint(seen)
        seen |= held
    assert seen == set(prompts)


@pytest.mark.parametrize("allow_negative", [False, True])
def test_the_fit_is_the_one_that_scipy_finds(allow_negative: bool) -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(200, 4)) @ rng.normal(size=(4, 4))
    weight, share = rng.random(200), (rng.random(200) < sigmoid(x @ [0.5, -0.3, 0.2, 0.0])).astype(float)

    def loss(w: np.ndarray) -> float:
        return float(weight @ (np.logaddexp(0, x @ w) - share * (x @ w)) + 0.5 * w @ w)

    bounds = [(None if allow_negative else 0, None)] * 4
    theirs = minimize(loss, np.zeros(4), bounds=bounds, options={"ftol": 1e-14, "gtol": 1e-9}).x
    assert fit_weights(x, share, weight, allow_negative=allow_negative) == pytest.approx(theirs, abs=2e-4)


def test_a_reward_without_scores_is_left_out_with_the_reason_and_the_others_count() -> None:
    rewards = scores()
    rewards["b"] = dict.fromkeys(rewards["b"], math.nan)
    rewards["flat"] = dict.fromkeys(rewards["a"], 1.0)
    del rewards["a"]["0/0"]
    found = calibrate(comparisons(choices({"a": 1.0})), rewards, STDS | {"flat": 0.0}, {})
    assert set(found.weights) == {"a", "c"}
    assert found.left_out["b"].startswith("100% of the comparisons") and "differ" in found.left_out["flat"]
    assert found.num_comparisons < 360


def test_too_little_is_refused_in_a_sentence() -> None:
    few = comparisons(choices({"a": 1.0}, groups=12))
    with pytest.raises(ValueError, match="at least, and there are 36 over 4: rate more"):
        calibrate(few, scores(), STDS, {})
    some = comparisons(choices({"a": 1.0}, groups=12))
    short = scores()
    del short["a"][some[0].winner]
    with pytest.raises(ValueError, match=r"over 4 that a, b, c all scored \([1-3] more lack a score\): rate"):
        calibrate(some, short, STDS, {})
    one_prompt = [Comparison("g", "p", "ann", "0/0", "0/1", 1.0)] * 60
    with pytest.raises(ValueError, match="there are 60 over 1"):
        calibrate(one_prompt, scores(), STDS, {})
    with pytest.raises(ValueError, match="wait until they are scored"):
        calibrate(few, {}, STDS, {})
    against = [
        Comparison("g", f"p{n % 9}", "ann", *(("lo", "hi") if n % 9 else ("hi", "lo")), 1.0)
        for n in range(90)
    ]
    with pytest.raises(ValueError, match="no reward goes with"):
        calibrate(against, {"a": {"lo": 0.0, "hi": 1.0}}, {"a": 1.0}, {})


def test_the_std_within_a_group_is_the_median_over_groups() -> None:
    rewards = {"a": {"1": 0.0, "2": 2.0, "3": 5.0, "4": 5.0, "5": 1.0, "6": 7.0, "7": math.nan}}
    groups = [["1", "2"], ["3", "4"], ["5", "6", "7"], ["7"], ["nobody"]]
    assert within_group_stds(rewards, groups) == {"a": pytest.approx(1.0)}
    assert within_group_stds({"b": {}}, groups) == {}

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowgrpo.advantages import Advantages, calibrate, combine

NAN = float("nan")
seeds = st.integers(0, 10_000)


def columns(seed: int, groups: int = 4, samples: int = 8) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    clip = 0.3 + 0.02 * torch.randn(groups, samples, generator=generator)
    return {"clip": clip, "verifier": torch.rand(groups, samples, generator=generator)}


WEIGHTS = {"clip": 0.6, "verifier": 0.4}
STDS = {"clip": 0.02, "verifier": 0.3}


def advantages(rewards: dict[str, torch.Tensor], **more: object) -> Advantages:
    return combine(rewards, WEIGHTS, STDS, **more)  # type: ignore[arg-type]


def test_one_reward_of_usual_spread_is_normalised_within_its_group() -> None:
    rewards = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    values = combine({"r": rewards}, {"r": 2.0}, {"r": 1.0}).values
    z = (rewards - 1.5) / rewards.std()
    torch.testing.assert_close(values, z / z.std(correction=0))


@given(seed=seeds)
def test_advantages_sum_to_zero_where_nothing_is_clipped(seed: int) -> None:
    result = advantages(columns(seed))
    assert result.is_counted.all()
    if result.values.abs().max() < 2.9:
        assert result.values.sum(1).abs().max() < 1e-4


@given(seed=seeds, shift=st.floats(-10, 10))
def test_a_constant_added_to_a_reward_changes_nothing(seed: int, shift: float) -> None:
    rewards = columns(seed)
    moved = rewards | {"verifier": rewards["verifier"] + shift}
    torch.testing.assert_close(advantages(moved).values, advantages(rewards).values, atol=2e-4, rtol=0)


@given(seed=seeds, scale=st.floats(0.1, 100))
def test_the_unit_of_a_reward_changes_nothing(seed: int, scale: float) -> None:
    rewards = columns(seed)
    scaled = rewards | {"verifier": rewards["verifier"] * scale}
    result = combine(scaled, WEIGHTS, STDS | {"verifier": STDS["verifier"] * scale})
    torch.testing.assert_close(result.values, advantages(rewards).values, atol=2e-4, rtol=0)


@given(seed=seeds, order=st.permutations(range(8)))
def test_the_order_of_samples_does_not_matter(seed: int, order: list[int]) -> None:
    rewards = columns(seed)
    permuted = {name: values[:, order] for name, values in rewards.items()}
    torch.testing.assert_close(advantages(permuted).values, advantages(rewards).values[:, order])


@given(seed=seeds)
def test_a_dead_group_changes_nothing_for_the_others(seed: int) -> None:
    rewards = columns(seed)
    dead = {name: torch.cat([values, torch.full((1, 8), 0.4)]) for name, values in rewards.items()}
    result = advantages(dead)
    assert torch.equal(result.values[:4], advantages(rewards).values)
    assert result.dead_groups.tolist() == [False] * 4 + [True]
    assert not result.is_counted[4].any()
    assert (result.values[4] == 0).all()


def test_rounding_noise_and_tiny_spread_are_no_judgement() -> None:
    noise = torch.tensor([[0.0, 1.0, -1.0, 0.5]])
    for calibrated in (0.0, 0.3):
        result = combine({"r": 0.7 + 1e-8 * noise}, {"r": 1.0}, {"r": calibrated})
        assert result.dead_groups.all()
    assert combine({"r": 0.7 + 0.02 * noise}, {"r": 1.0}, {"r": 0.3}).dead_groups.all()
    assert not combine({"r": 0.7 + 0.05 * noise}, {"r": 1.0}, {"r": 0.3}).dead_groups.any()


def test_a_flat_group_is_not_scaled_up_to_a_lively_one() -> None:
    lively, flat = torch.tensor([[0.0, 1.0, 2.0, 3.0]]), torch.tensor([[1.0, 1.1, 1.2, 1.3]])
    values = combine({"r": torch.cat([lively, flat])}, {"r": 1.0}, {"r": 1.0}).values
    assert values[1].abs().max() < 0.3 * values[0].abs().max()


def test_a_rollout_that_is_flat_throughout_is_not_scaled_up_to_a_lively_one_either() -> None:
    flat = torch.tensor([[0.0, 0.1, 0.2, 0.3]])
    values = combine({"r": flat}, {"r": 1.0}, {"r": 1.0}).values
    torch.testing.assert_close(values, (flat - 0.15) / 0.5 / 0.25)


def test_difficulty_of_prompts_does_not_shrink_advantages() -> None:
    spread = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    one = combine({"r": spread}, {"r": 1.0}, {"r": 1.0}).values
    two = combine({"r": torch.cat([spread, spread + 100])}, {"r": 1.0}, {"r": 1.0}).values
    torch.testing.assert_close(two, one.expand(2, 4))


def test_a_missing_score_masks_its_sample_and_is_never_a_number() -> None:
    rewards = columns(0)
    rewards["clip"][1, 3] = NAN
    result = advantages(rewards)
    assert not result.is_counted[1, 3]
    assert result.values[1, 3] == 0
    assert result.values.isfinite().all()
    assert result.is_counted.sum() == 31
    others = [0, 1, 2, 4, 5, 6, 7]
    alone = {name: values[1:2, others] for name, values in columns(0).items()}
    ratio = result.values[1, others] / combine(alone, WEIGHTS, STDS).values[0]
    torch.testing.assert_close(ratio, ratio[0].expand(7), rtol=1e-4, atol=0)  # but for the batch's scale


def test_a_reward_that_a_group_lacks_leaves_its_weight_to_the_others() -> None:
    rewards = columns(0)
    rewards["verifier"][2] = NAN
    result = advantages(rewards)
    assert result.is_counted.all()
    clip_only = combine({"clip": rewards["clip"]}, {"clip": 1.0}, STDS)
    ratio = result.values[2] / clip_only.values[2]
    torch.testing.assert_close(ratio, ratio[0].expand(8), rtol=1e-4, atol=0)


def test_a_group_without_two_scored_samples_is_dead() -> None:
    rewards = {"r": torch.tensor([[1.0, NAN, NAN, NAN], [0.0, 1.0, 2.0, 3.0], [NAN] * 4])}
    result = combine(rewards, {"r": 1.0}, {"r": 1.0})
    assert result.dead_groups.tolist() == [True, False, True]
    assert result.values.isfinite().all()
    nothing = combine({"r": torch.full((2, 4), NAN)}, {"r": 1.0}, {})
    assert nothing.dead_groups.all()
    assert (nothing.values == 0).all()


def test_infinite_rewards_are_missing_too() -> None:
    rewards = {"r": torch.tensor([[float("inf"), 0.0, 1.0, 2.0]])}
    result = combine(rewards, {"r": 1.0}, {"r": 1.0})
    assert result.is_counted.tolist() == [[False, True, True, True]]


def test_a_negative_weight_turns_a_reward_round() -> None:
    rewards = {"r": torch.tensor([[0.0, 1.0, 2.0, 3.0]])}
    up, down = (combine(rewards, {"r": weight}, {"r": 1.0}).values for weight in (1.0, -0.5))
    torch.testing.assert_close(up, -down)


def test_a_reward_of_weight_zero_is_not_looked_at() -> None:
    rewards = columns(0) | {"broken": torch.full((4, 8), NAN)}
    result = combine(rewards, WEIGHTS | {"broken": 0.0}, STDS)
    assert torch.equal(result.values, advantages(columns(0)).values)


def test_what_is_unlike_its_group_gains_only_when_it_is_good() -> None:
    rewards = columns(1)
    diversity = torch.rand(4, 8, generator=torch.Generator().manual_seed(0)) + 0.1
    plain, shaped = advantages(rewards).values, advantages(rewards, diversity=diversity).values
    factor = (diversity / diversity.mean(1, keepdim=True)).clamp(0.5, 2)
    torch.testing.assert_close(shaped, torch.where(plain > 0, plain * factor, plain).clamp(-5, 5))


def test_what_failed_a_gate_is_never_praised() -> None:
    rewards = columns(1)
    gate_failed = torch.ones(4, 8, dtype=torch.bool)
    assert advantages(rewards, gate_failed=gate_failed).values.max() <= 0


@given(seed=seeds)
def test_no_advantage_exceeds_the_clip(seed: int) -> None:
    rewards = {"r": torch.randn(3, 16, generator=torch.Generator().manual_seed(seed)) ** 5}
    assert combine(rewards, {"r": 1.0}, {"r": 0.1}, clip=1.5).values.abs().max() <= 1.5


def test_calibration_is_the_median_spread_within_groups() -> None:
    groups = torch.tensor([[0.0, 2.0, NAN], [0.0, 20.0, 10.0], [5.0, 5.0, 5.0], [NAN, NAN, 1.0]])
    stds = calibrate({"r": groups, "unscored": torch.full((2, 3), NAN)})
    assert stds == {"r": pytest.approx(2**0.5)}


def test_metrics_tell_what_happened() -> None:
    rewards = columns(0)
    rewards["clip"][1, 3] = NAN
    metrics = advantages(rewards).metrics
    assert metrics["unscored_share/clip"] == pytest.approx(1 / 32)
    assert metrics["reward/verifier"] == pytest.approx(rewards["verifier"].mean().item())
    assert metrics["dead_group_share"] == 0
    assert all(value == value for value in metrics.values())


def test_what_cannot_be_combined_is_refused_with_a_sentence() -> None:
    rewards = columns(0)
    with pytest.raises(ValueError, match="all reward weights are zero"):
        combine(rewards, {"clip": 0.0}, STDS)
    with pytest.raises(ValueError, match="has a weight but no scores"):
        combine(rewards, {"aesthetic": 1.0}, STDS)
    with pytest.raises(ValueError, match="no calibrated std"):
        combine(rewards, {"clip": 1.0}, {})
    with pytest.raises(ValueError, match="the one shape"):
        combine(rewards | {"clip": torch.zeros(1, 8)}, WEIGHTS, STDS)


def test_a_group_of_one_teaches_nothing_and_is_never_nan() -> None:
    one = {"clip": torch.tensor([[0.3]]), "verifier": torch.tensor([[0.9]])}
    assert calibrate(one) == {}
    result = advantages(one, diversity=torch.tensor([[NAN]]))
    assert result.values.tolist() == [[0.0]]
    assert not result.is_counted.any()
    assert result.dead_groups.all()
    assert all(math.isfinite(value) for value in result.metrics.values())

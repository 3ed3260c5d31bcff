"""The statistics of published code: group, global, pooled, running; raw sums. Against their formulas."""

from __future__ import annotations

import json
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowgrpo.advantages import Advantages, combine
from flowgrpo.config import AdvantageConfig
from flowgrpo.running import Buffers, RunningStatistics

NAN = float("nan")
Std = Literal["calibrated", "pooled", "group", "global", "running"]
GROUPWISE: tuple[Std, ...] = ("pooled", "group", "global")
PROMPTS = ("red hair", "blue hair", "long hair", "buns")


def columns(seed: int, groups: int = 4, samples: int = 8) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    clip = 0.3 + 0.02 * torch.randn(groups, samples, generator=generator)
    return {"clip": clip, "quality": torch.rand(groups, samples, generator=generator)}


def by(std: Std, rewards: dict[str, torch.Tensor], **more: object) -> Advantages:
    """Advantages by one kind of statistics; at prompts of their own where they are running ones."""
    names = [PROMPTS[i % 4] + "!" * (i // 4) for i in range(len(next(iter(rewards.values()))))]
    given_ = {"running": RunningStatistics(names, min_count=2) if std == "running" else None} | more
    weights = dict.fromkeys(rewards, 1.0)
    config = given_.pop("config", AdvantageConfig(std=std))
    return combine(rewards, weights, dict.fromkeys(rewards, 0.1), config=config, **given_)  # type: ignore[arg-type]


@pytest.mark.parametrize("std", GROUPWISE)
@given(seed=st.integers(0, 10_000))
def test_advantages_sum_to_zero_in_every_group(std: Std, seed: int) -> None:
    values = by(std, columns(seed), clip=100.0).values
    assert values.abs().max() > 0.1
    assert values.sum(1).abs().max() < 1e-4


@pytest.mark.parametrize("std", ["calibrated", *GROUPWISE, "running"])
@given(seed=st.integers(0, 10_000), scale=st.floats(0.1, 100), shift=st.floats(-10, 10))
def test_a_sum_of_advantages_does_not_feel_the_unit_or_the_zero_of_a_reward(
    std: Std, seed: int, scale: float, shift: float
) -> None:
    rewards = columns(seed)
    moved = rewards | {"quality": scale * rewards["quality"].double() + shift}
    names = list(PROMPTS)
    running = RunningStatistics(names, min_count=2) if std == "running" else None
    before, after = (
        combine(
            r, {"clip": 0.6, "quality": 0.4}, {"clip": 0.02, "quality": 0.3 * unit},
            config=AdvantageConfig(std=std), running=running,
        ).values
        for r, unit in ((rewards, 1.0), (moved, scale))
    )  # fmt: skip
    torch.testing.assert_close(after, before, atol=5e-4, rtol=0)


def test_pooled_advantages_do_not_feel_how_hard_the_other_prompts_are() -> None:
    """Pitfall 10: prompts of means 0 and 100 with one spread have the advantages of either alone."""
    spread = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    alone = by("pooled", {"r": spread}).values
    both = by("pooled", {"r": torch.cat([spread, spread + 100])}).values
    torch.testing.assert_close(both, alone.expand(2, 4))
    mixed = by("global", {"r": torch.cat([spread, spread + 100])}).values
    assert mixed.abs().max() < 0.05 * alone.abs().max()


def test_pooled_is_the_root_mean_square_of_the_stds_within_groups() -> None:
    rewards = {"r": torch.tensor([[0.0, 2.0, 4.0], [0.0, 20.0, 10.0]])}
    pooled = ((4.0 + 100.0) / 2) ** 0.5
    torch.testing.assert_close(
        by("pooled", rewards).values, torch.tensor([[-2.0, 0.0, 2.0], [-10.0, 10.0, 0.0]]) / pooled
    )


def test_pooled_leaves_flat_groups_out_of_the_spread() -> None:
    live = torch.tensor([[0.0, 2.0, 4.0]])
    with_flat = by("pooled", {"r": torch.cat([live, torch.full((1, 3), 7.0)])})
    assert torch.equal(with_flat.values[:1], by("pooled", {"r": live}).values)
    assert with_flat.dead_groups.tolist() == [False, True]


def test_group_is_the_formula_of_dance_grpo() -> None:
    rewards = columns(3)["quality"]
    expected = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-8)
    torch.testing.assert_close(by("group", {"r": rewards}).values, expected)


def test_global_is_the_formula_of_flow_grpo() -> None:
    rewards = columns(4)["quality"]
    expected = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(correction=0) + 1e-4)
    torch.testing.assert_close(by("global", {"r": rewards}).values, expected, rtol=1e-3, atol=1e-4)


def test_a_raw_sum_is_the_weighted_rewards_added_before_anything_else() -> None:
    rewards = columns(5)
    weights = {"clip": 2.0, "quality": -0.5}
    config = AdvantageConfig(combine="raw_sum", std="group")
    summed = 2.0 * rewards["clip"] - 0.5 * rewards["quality"]
    expected = (summed - summed.mean(1, keepdim=True)) / summed.std(1, keepdim=True)
    torch.testing.assert_close(combine(rewards, weights, {}, config=config).values, expected)


def test_of_a_raw_sum_a_sample_has_all_rewards_or_none() -> None:
    rewards = columns(6)
    rewards["clip"][1, 3] = NAN
    rewards["quality"][2] = NAN
    config = AdvantageConfig(combine="raw_sum", std="group")
    result = combine(rewards, {"clip": 1.0, "quality": 1.0}, {}, config=config)
    assert not result.is_counted[1, 3]
    assert result.is_counted[1].sum() == 7
    assert result.dead_groups.tolist() == [False, False, True, False]
    assert result.values.isfinite().all()


@pytest.mark.parametrize("std", [*GROUPWISE, "running"])
def test_missing_scores_are_masked_by_every_statistic(std: Std) -> None:
    rewards = {"r": columns(7)["quality"]}
    rewards["r"][0, 2] = NAN
    rewards["r"][3] = float("inf")
    result = by(std, rewards)
    assert result.values.isfinite().all()
    assert not result.is_counted[0, 2]
    assert result.values[0, 2] == 0
    assert not result.is_counted[3].any()
    assert result.is_counted.sum() == 23


@pytest.mark.parametrize("std", GROUPWISE)
def test_groups_without_difference_are_dead_by_every_statistic(std: Std) -> None:
    """Pitfall 9: neither constant rewards nor rounding noise become advantages."""
    noise = torch.tensor([[0.0, 1.0, -1.0, 0.5]], dtype=torch.float64)
    flat = torch.cat([torch.full((1, 4), 0.7, dtype=torch.float64), 0.7 + 1e-9 * noise])
    result = by(std, {"r": flat})
    assert result.dead_groups.all()
    assert (result.values == 0).all()
    nothing = by(std, {"r": torch.full((2, 4), NAN)})
    assert nothing.dead_groups.all()


def test_the_diversity_factor_can_be_left_out() -> None:
    rewards = columns(8)
    diversity = torch.rand(4, 8, generator=torch.Generator().manual_seed(0)) + 0.1
    without = by("group", rewards, diversity=diversity, config=AdvantageConfig(std="group", diversity=False))
    assert torch.equal(without.values, by("group", rewards).values)


# Running statistics


def ddpo(
    rewards: torch.Tensor, prompts: tuple[str, ...], buffers: Buffers, size: int = 6, count: int = 4
) -> Advantages:
    running = RunningStatistics(prompts, buffers, buffer_size=size, min_count=count)
    return combine({"r": rewards}, {"r": 1.0}, {}, config=AdvantageConfig(std="running"), running=running)


def test_a_prompt_with_too_short_a_past_has_the_statistics_of_the_rollout() -> None:
    rewards = torch.tensor([[0.0, 1.0], [4.0, 7.0]])
    result = ddpo(rewards, ("a", "b"), {})
    torch.testing.assert_close(result.values, (rewards - 3.0) / rewards.std(correction=0))
    assert result.buffers == {"r": {"a": [0.0, 1.0], "b": [4.0, 7.0]}}


def test_a_prompt_with_a_past_has_its_own_statistics_and_forgets_the_oldest() -> None:
    past: Buffers = {"r": {"a": [1.0, 2.0, 3.0, 4.0, 5.0], "b": [0.0]}}
    result = ddpo(torch.tensor([[6.0, 8.0], [1.0, 3.0]]), ("a", "b"), past)
    kept = torch.tensor([2.0, 3.0, 4.0, 5.0, 6.0, 8.0])
    expected = (torch.tensor([6.0, 8.0]) - kept.mean()) / kept.std(correction=0)
    torch.testing.assert_close(result.values[0], expected)
    assert result.buffers["r"]["a"] == kept.tolist()
    assert past["r"]["a"] == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_a_group_that_is_flat_but_better_than_its_past_is_praised() -> None:
    result = ddpo(torch.tensor([[9.0, 9.0]]), ("a",), {"r": {"a": [1.0, 2.0, 3.0, 2.0]}})
    assert (result.values > 0).all()
    assert result.is_counted.all()


def test_two_prompts_alike_in_their_first_77_tokens_are_two() -> None:
    """Pitfall 11: a prompt is its own text; nothing is derived from its tokens."""
    long = "a " * 100
    result = ddpo(torch.tensor([[0.0, 1.0], [4.0, 7.0]]), (f"{long}cat", f"{long}dog"), {})
    assert result.buffers["r"] == {f"{long}cat": [0.0, 1.0], f"{long}dog": [4.0, 7.0]}


def test_a_prompt_that_comes_twice_in_a_rollout_has_one_past() -> None:
    result = ddpo(torch.tensor([[0.0, 1.0], [4.0, 7.0]]), ("a", "a"), {})
    assert result.buffers == {"r": {"a": [0.0, 1.0, 4.0, 7.0]}}


@given(seed=st.integers(0, 10_000))
def test_running_statistics_survive_a_checkpoint_to_the_bit(seed: int) -> None:
    """Pitfall 24."""
    rewards = columns(seed)["clip"]
    buffers = ddpo(rewards, PROMPTS, {}, size=16, count=8).buffers
    read = json.loads(json.dumps(buffers, allow_nan=False))
    assert read == buffers
    again = [ddpo(rewards, PROMPTS, one, size=16, count=8).values for one in (buffers, read)]
    assert torch.equal(*again)


def test_what_has_no_statistics_is_refused_with_a_sentence() -> None:
    with pytest.raises(ValueError, match="needs the running statistics"):
        combine(columns(0), {"clip": 1.0}, {}, config=AdvantageConfig(std="running"))
    with pytest.raises(ValueError, match="expected a prompt per group, got 1 for 2"):
        ddpo(torch.zeros(2, 2), ("a",), {})
    with pytest.raises(ValueError, match="a raw_sum has no calibrated std"):
        AdvantageConfig(combine="raw_sum")
    with pytest.raises(ValueError, match="min_count must be at most buffer_size"):
        AdvantageConfig(buffer_size=8)

"""Other ways from several rewards to one advantage: GDPO, win rates, caps. Against their formulas."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowgrpo.advantages import Advantages, ceilings, combine, with_base_caps
from flowgrpo.config import AdvantageConfig
from flowgrpo.normalise import win_shares

NAN = float("nan")
Combine = Literal["gdpo", "winrate"]
BOTH: tuple[Combine, ...] = ("gdpo", "winrate")
WEIGHTS = {"clip": 2.0, "quality": -0.5, "taste": 1.0}
seeds = st.integers(0, 10_000)


def columns(seed: int, groups: int = 4, samples: int = 8) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    clip = 0.3 + 0.02 * torch.randn(groups, samples, generator=generator)
    quality = torch.rand(groups, samples, generator=generator)
    return {"clip": clip, "quality": quality, "taste": torch.randn(groups, samples, generator=generator)}


def by(how: Combine, rewards: dict[str, torch.Tensor], **more: object) -> Advantages:
    weights = {name: WEIGHTS[name] for name in rewards}
    config = AdvantageConfig(combine=how, std="group")
    return combine(rewards, weights, {}, config=config, **more)  # type: ignore[arg-type]


def gdpo_as_published(rewards: dict[str, torch.Tensor]) -> torch.Tensor:
    """The trainer of NVlabs/GDPO (its TRL branch) on one flat batch, small numbers and all."""
    per_reward = []
    for name, values in rewards.items():
        groups = values.double()
        z = (groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-4)
        per_reward.append(WEIGHTS[name] * z.flatten())
    summed = torch.stack(per_reward, 1).nansum(1)
    return ((summed - summed.mean()) / (summed.std() + 1e-4)).reshape(len(groups), -1).float()


def large(rewards: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """In a unit beside which the published 1e-4 is nothing."""
    return {name: 100 * column for name, column in rewards.items()}


def wins_by_hand(values: list[float]) -> list[float]:
    return [
        sum((mine > other) + 0.5 * (mine == other) for j, other in enumerate(values) if i != j)
        / (len(values) - 1)
        for i, mine in enumerate(values)
    ]


@given(seed=seeds)
def test_gdpo_is_the_formula_of_its_code(seed: int) -> None:
    rewards = large(columns(seed))
    torch.testing.assert_close(by("gdpo", rewards).values, gdpo_as_published(rewards), rtol=0, atol=1e-3)


def test_gdpo_has_the_zeros_of_dead_groups_in_its_batch() -> None:
    """As in its code, so that an update with few live groups is louder in them, not quieter."""
    rewards = large(columns(1))
    flat = {name: torch.cat([column, torch.full((2, 8), 0.5)]) for name, column in rewards.items()}
    result = by("gdpo", flat)
    torch.testing.assert_close(result.values, gdpo_as_published(flat), rtol=0, atol=1e-3)
    assert result.dead_groups.tolist() == [False] * 4 + [True] * 2
    assert not result.is_counted[4:].any()


def test_gdpo_of_one_reward_is_plain_grpo() -> None:
    rewards = {"taste": columns(2)["taste"]}
    plain = combine(rewards, {"taste": 1.0}, {}, config=AdvantageConfig(std="group"))
    assert torch.equal(by("gdpo", rewards).values, plain.values)


@given(seed=seeds)
def test_win_rates_are_the_share_of_others_beaten_normalised_in_the_group(seed: int) -> None:
    rewards = {name: column.argsort(1).double() for name, column in columns(seed).items()}
    rewards["quality"] = (rewards["quality"] / 3).round()  # with ties
    expected = torch.zeros(4, 8, dtype=torch.float64)
    for name, column in rewards.items():
        shares = torch.tensor([wins_by_hand(row) for row in column.tolist()], dtype=torch.float64)
        z = (shares - shares.mean(1, keepdim=True)) / shares.std(1, keepdim=True).clamp(min=1e-6)
        expected += WEIGHTS[name] * z / sum(map(abs, WEIGHTS.values()))
    torch.testing.assert_close(by("winrate", rewards).values, expected.float())


@given(seed=seeds)
def test_win_rates_see_the_order_and_nothing_else(seed: int) -> None:
    rewards = {name: column.argsort(1).double() for name, column in columns(seed).items()}
    bent = rewards | {"taste": (rewards["taste"] / 2).exp(), "quality": rewards["quality"] ** 3 + 7}
    torch.testing.assert_close(by("winrate", bent).values, by("winrate", rewards).values)


@given(seed=seeds)
def test_win_shares_of_a_group_are_a_half_on_average(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 4, (3, 7), generator=generator).double()
    mask = torch.rand(3, 7, generator=generator) > 0.2
    shares = win_shares(values, mask)
    assert (shares[mask & (mask.sum(1) > 1)[:, None]].isfinite()).all()
    for row, kept in zip(shares, mask, strict=True):
        if kept.sum() > 1:
            assert row[kept].mean().item() == pytest.approx(0.5)
    assert shares[~mask].isnan().all()


@pytest.mark.parametrize("how", BOTH)
@given(seed=seeds, order=st.permutations(range(8)))
def test_the_order_of_samples_does_not_matter_to_either(how: Combine, seed: int, order: list[int]) -> None:
    rewards = columns(seed)
    permuted = {name: values[:, order] for name, values in rewards.items()}
    torch.testing.assert_close(by(how, permuted).values, by(how, rewards).values[:, order])


@pytest.mark.parametrize("how", BOTH)
@given(seed=seeds, scale=st.floats(0.1, 100), shift=st.floats(-10, 10))
def test_the_unit_and_the_zero_of_a_reward_change_nothing_in_either(
    how: Combine, seed: int, scale: float, shift: float
) -> None:
    rewards = {name: column.argsort(1).double() for name, column in columns(seed).items()}
    moved = rewards | {"taste": scale * rewards["taste"] + shift}
    torch.testing.assert_close(by(how, moved).values, by(how, rewards).values, atol=2e-3, rtol=0)


@pytest.mark.parametrize("how", BOTH)
def test_a_missing_score_is_masked_by_either_and_never_a_zero(how: Combine) -> None:
    rewards = columns(3)
    rewards["clip"][1, 3] = NAN
    rewards["quality"][2] = float("inf")
    rewards["taste"][3] = NAN
    result = by(how, rewards)
    assert result.values.isfinite().all()
    assert not result.is_counted[1, 3]
    assert result.values[1, 3] == 0
    assert result.is_counted.sum() == 31
    assert by(how, {name: torch.full((2, 4), NAN) for name in rewards}).dead_groups.all()


@pytest.mark.parametrize("how", BOTH)
def test_groups_without_difference_are_dead_by_either(how: Combine) -> None:
    noise = torch.tensor([[0.0, 1.0, -1.0, 0.5]], dtype=torch.float64)
    flat = torch.cat([torch.full((1, 4), 0.7, dtype=torch.float64), 0.7 + 1e-9 * noise])
    result = by(how, {"clip": flat, "taste": flat})
    assert result.dead_groups.all()
    assert (result.values == 0).all()


def test_either_needs_the_statistics_of_the_group() -> None:
    for how in BOTH:
        with pytest.raises(ValueError, match=f"{how} is defined by the statistics of each group"):
            AdvantageConfig(combine=how)


# Caps


def test_a_cap_takes_the_gain_beyond_it_and_leaves_the_rest() -> None:
    rewards = {"r": torch.tensor([[0.0, 1.0, 2.0, 9.0]])}
    config = AdvantageConfig(caps={"r": 2.0})
    result = combine(rewards, {"r": 1.0}, {"r": 1.0}, config=config)
    expected = combine({"r": torch.tensor([[0.0, 1.0, 2.0, 2.0]])}, {"r": 1.0}, {"r": 1.0})
    assert torch.equal(result.values, expected.values)
    assert result.metrics["capped_share/r"] == 0.25
    assert result.metrics["reward/r"] == 3.0


@pytest.mark.parametrize("config", [AdvantageConfig(), AdvantageConfig(std="group")])
def test_a_group_wholly_beyond_the_cap_is_dead(config: AdvantageConfig) -> None:
    config = config.model_copy(update={"caps": {"r": 1.0}})
    rewards = {"r": torch.tensor([[5.0, 6.0, 7.0], [0.0, 0.5, 9.0]])}
    assert combine(rewards, {"r": 1.0}, {"r": 1.0}, config=config).dead_groups.tolist() == [True, False]


def test_a_cap_makes_no_number_of_a_missing_or_infinite_score() -> None:
    rewards = {"r": torch.tensor([[NAN, float("inf"), 0.0, 1.0, 2.0]])}
    result = combine(rewards, {"r": 1.0}, {"r": 1.0}, config=AdvantageConfig(caps={"r": 1.5}))
    assert result.is_counted.tolist() == [[False, False, True, True, True]]


def test_the_ceiling_of_the_base_is_the_99th_percentile_of_all_its_images() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(8, 32, generator=generator)
    values[0, 0] = NAN
    found = ceilings({"r": values, "unscored": torch.full((2, 3), NAN)})
    assert found == {"r": pytest.approx(values.double().nanquantile(0.99).item())}


def test_caps_at_the_base_are_for_what_is_praised_and_give_way_to_a_number_of_ones_own() -> None:
    config = AdvantageConfig(cap_at_base=True, caps={"own": 5.0})
    weights = {"own": 1.0, "up": 0.5, "down": -1.0, "unweighted": 0.0}
    found = with_base_caps(config, weights, {"own": 1.0, "up": 2.0, "down": 3.0, "unweighted": 4.0})
    assert found.caps == {"own": 5.0, "up": 2.0}
    assert not found.cap_at_base
    with pytest.raises(ValueError, match="cap_at_base needs the base's ceilings"):
        combine({"up": torch.zeros(1, 2)}, {"up": 1.0}, {"up": 1.0}, config=config)

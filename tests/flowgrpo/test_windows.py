"""Where noise is renewed: windows follow from counters and leave out the last step."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flowgrpo.choices import NFT
from flowgrpo.config import RolloutConfig, RunConfig
from flowgrpo.windows import held_of, window_of

counter = st.integers(0, 2**32 - 1)


@st.composite
def configs(draw: st.DrawFn) -> RolloutConfig:
    num_steps = draw(st.integers(2, 60))
    return RolloutConfig(
        num_steps=num_steps,
        window=draw(st.sampled_from(["early_random", "first", "progressive", "all", "random", "none"])),
        window_size=draw(st.integers(1, num_steps - 1)),
        window_every=draw(st.integers(1, 30)),
        trained_share=draw(st.floats(0.01, 1)),
    )


@given(config=configs(), seed=counter, rollout=st.integers(0, 500), group=st.integers(0, 50))
def test_a_window_has_its_size_and_leaves_out_the_last_step(
    config: RolloutConfig, seed: int, rollout: int, group: int
) -> None:
    steps, trained = window_of(config, seed, rollout, group)
    assert len(steps) == {"all": config.num_steps - 1, "none": 0}.get(config.window, config.window_size)
    assert list(steps) == sorted(set(steps))
    assert all(0 <= step < config.num_steps - 1 for step in steps)
    assert set(trained) <= set(steps)
    assert len(trained) == (max(1, int(config.trained_share * len(steps) + 1e-9)) if steps else 0)


@given(config=configs(), seed=counter, rollout=st.integers(0, 500), group=st.integers(0, 50))
def test_a_resumed_run_meets_the_same_windows(
    config: RolloutConfig, seed: int, rollout: int, group: int
) -> None:
    assert window_of(config, seed, rollout, group) == window_of(config, seed, rollout, group)


@given(config=configs(), count=st.integers(0, 70), rollout=st.integers(0, 500), group=st.integers(0, 50))
def test_a_policy_is_held_at_steps_that_are_not_trained(
    config: RolloutConfig, count: int, rollout: int, group: int
) -> None:
    _, trained = window_of(config, 0, rollout, group)
    held = held_of(config, count, 0, rollout, group)
    assert list(held) == sorted(set(held))
    assert not set(held) & set(trained)
    assert len(held) == min(count, config.num_steps - len(trained))
    assert held == held_of(config, count, 0, rollout, group)


def test_every_step_is_held_sooner_or_later() -> None:
    config = RolloutConfig(num_steps=8, window="first")
    drawn = [held_of(config, 1, 0, rollout, 0) for rollout in range(60)]
    assert {step for held in drawn for step in held} == {3, 4, 5, 6, 7}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"update": {"kl_steps": 1, "kl_weight": 0}},
            "kl_steps says where the KL is measured, and kl_weight is 0",
        ),
        ({"update": {"kl_steps": 1}, "algorithm": {"name": "nft"}}, "nft learns from noise levels"),
    ],
)
def test_a_policy_is_held_only_where_a_kl_is_measured(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        RunConfig.model_validate({"prompts": ["a"], "reward_weights": {"clip": 1}} | settings)


def starts(rollouts: int, **settings: Any) -> list[int]:
    config = RolloutConfig(num_steps=8, window_size=3, **settings)
    return [window_of(config, 0, rollout, 0)[0][0] for rollout in range(1, rollouts + 1)]


def test_early_windows_start_anywhere_in_the_first_half() -> None:
    assert set(starts(60)) == {0, 1, 2, 3}


def test_the_first_window_never_moves() -> None:
    assert set(starts(20, window="first")) == {0}


def test_random_windows_start_anywhere() -> None:
    assert set(starts(60, window="random")) == {0, 1, 2, 3, 4}


def test_the_progressive_window_moves_on_and_starts_over() -> None:
    assert starts(14, window="progressive", window_every=2) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 0, 0, 1, 1]


def test_every_step_is_trained_sooner_or_later() -> None:
    config = RolloutConfig(num_steps=8, window="all", trained_share=0.6)
    drawn = [window_of(config, 0, rollout, 0)[1] for rollout in range(40)]
    assert {len(trained) for trained in drawn} == {4}
    assert {step for trained in drawn for step in trained} == set(range(7))


def test_a_window_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValidationError, match="window_size must be at most num_steps - 1"):
        RolloutConfig(num_steps=3, window_size=3)


def test_only_algorithms_that_need_no_noise_go_without_a_window() -> None:
    rollout = RolloutConfig(window="none")
    RunConfig(prompts=("a",), reward_weights={"clip": 1}, algorithm=NFT(), rollout=rollout)
    with pytest.raises(ValidationError, match="flow_grpo learns from stochastic steps"):
        RunConfig(prompts=("a",), reward_weights={"clip": 1}, rollout=rollout)

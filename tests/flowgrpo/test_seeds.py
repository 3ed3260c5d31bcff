from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowgrpo.seeds import MAX_SEED, derive_seed, group_seeds, initial_latents, noise

counters = st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=5)


def test_noise_follows_from_its_counters_and_never_from_what_was_drawn_before() -> None:
    first = noise((8, 4, 4), 1, 2, 3)
    torch.manual_seed(99)
    noise((8, 4, 4), 1, 2, 4)
    assert torch.equal(noise((8, 4, 4), 1, 2, 3), first)


@given(one=counters, other=counters)
def test_different_counters_give_different_noise(one: list[int], other: list[int]) -> None:
    assert (derive_seed(*one) == derive_seed(*other)) == (one == other)


def test_noise_is_unit_gaussian() -> None:
    sample = noise((100_000,), 7)
    assert sample.mean().item() == pytest.approx(0, abs=0.02)
    assert sample.std().item() == pytest.approx(1, abs=0.02)


def test_a_seed_gives_what_a_pipeline_draws_from_its_generator() -> None:
    generator = torch.Generator().manual_seed(5)
    assert torch.equal(initial_latents(5, (8, 4, 4)), torch.randn(1, 8, 4, 4, generator=generator)[0])


def test_no_two_members_of_a_run_share_a_seed() -> None:
    seeds = [seed for update in range(20) for group in range(4) for seed in group_seeds(0, update, group, 16)]
    assert len(set(seeds)) == len(seeds) == 1280
    assert all(0 <= seed <= MAX_SEED for seed in seeds)

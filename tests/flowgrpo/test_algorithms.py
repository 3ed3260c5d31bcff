"""What holds for every algorithm."""

from __future__ import annotations

import math

import pytest
import torch

from flowgrpo.advantages import combine
from flowgrpo.config import LoraConfig, UpdateConfig
from flowgrpo.learner import Learner
from flowgrpo.policies import Policy
from flowgrpo.rollout import Rollout
from tests.flowgrpo.conftest import a_group, same, state_of
from tests.flowgrpo.variants import EVERY, FORWARD, REWARDED, TRAJECTORY, even, gradients, judged, run

CONTRASTED = TRAJECTORY | FORWARD | {"dpo": REWARDED["dpo"]}
"""Those whose loss only compares images; RWR imitates what it is given."""


@pytest.fixture
def fresh(policy: Policy) -> Policy:
    policy.attach_lora(LoraConfig(rank=4, alpha=8.0), seed=1)
    return policy


def learner_of(policy: Policy, name: str, **settings: object) -> Learner:
    config = UpdateConfig.model_validate({"kl_weight": 0.1, **settings})
    return Learner(policy, config, EVERY[name])


def groups(policy: Policy, micro_batch_size: int) -> list[Rollout]:
    return [a_group(policy, p, micro_batch_size=micro_batch_size) for p in ("red hair", "blue hair")]


# Every algorithm


@pytest.mark.parametrize("name", EVERY)
def test_every_first_step_has_a_gradient_no_kl_and_finite_numbers(fresh: Policy, name: str) -> None:
    """Pitfall 14: the KL is 0 where nothing has been learned yet."""
    rollout = a_group(fresh)
    (metrics,) = run(learner_of(fresh, name), [rollout], judged([rollout]))
    assert metrics.kl == 0
    assert metrics.grad_norm > 0
    assert not metrics.is_skipped
    numbers = {**metrics.means, **metrics.peaks, "loss": metrics.loss}
    assert all(math.isfinite(value) for value in numbers.values()), numbers


@pytest.mark.parametrize("name", EVERY)
def test_away_from_the_reference_the_kl_pulls_back_in_every_algorithm(tuned: Policy, name: str) -> None:
    """Pitfall 14: a KL that is logged also has a gradient."""
    rollout = a_group(tuned)
    with_kl, without = (
        gradients(learner_of(tuned, name, kl_weight=weight), [rollout], judged([rollout]))
        for weight in (10.0, 0.0)
    )
    assert not same(with_kl, without)
    (metrics,) = run(learner_of(tuned, name), [rollout], judged([rollout]))
    assert metrics.kl > 0


@pytest.mark.parametrize("name", CONTRASTED)
def test_without_advantages_no_algorithm_has_a_gradient(fresh: Policy, name: str) -> None:
    rollout = a_group(fresh)
    found = gradients(learner_of(fresh, name), [rollout], even())
    assert all((grad == 0).all() for grad in found.values())


@pytest.mark.parametrize("name", REWARDED)
@pytest.mark.parametrize("value", [0.5, float("nan")])
def test_without_judgement_no_algorithm_moves_a_weight(tuned: Policy, name: str, value: float) -> None:
    """Pitfall 9: equal and missing rewards are dead groups, which take no part."""
    learner, before = learner_of(tuned, name), state_of(tuned)
    nothing = combine({"r": torch.full((1, 6), value)}, {"r": 1.0}, {"r": 1.0})
    (metrics,) = run(learner, [a_group(tuned)], nothing)
    assert metrics.num_samples == 0
    assert same(before, state_of(tuned))
    assert learner.optimizer_tensors() == {}


@pytest.mark.parametrize("name", REWARDED)
def test_a_dead_group_leaves_no_trace_in_any_algorithm(tuned: Policy, name: str) -> None:
    live, dead = a_group(tuned), a_group(tuned, "blue hair")
    rewards = torch.stack([torch.arange(6.0), torch.full((6,), 2.0)])
    both = combine({"r": rewards}, {"r": 1.0}, {"r": 1.0})
    alone = combine({"r": rewards[:1]}, {"r": 1.0}, {"r": 1.0})
    learner = learner_of(tuned, name)
    assert same(gradients(learner, [live, dead], both), gradients(learner, [live], alone))


@pytest.mark.parametrize("name", REWARDED)
@pytest.mark.parametrize("broken", [False, True])
def test_a_sample_without_score_leaves_no_trace_in_any_algorithm(
    tuned: Policy, name: str, broken: bool
) -> None:
    """Missing scores are masks, and what a broken sample holds never enters a sum."""
    rollout = a_group(tuned, micro_batch_size=6)
    rewards = torch.arange(6.0)[None]
    rewards[0, 2] = float("nan")
    advantages = combine({"r": rewards}, {"r": 1.0}, {"r": 1.0})
    learner = learner_of(tuned, name)
    with_it = gradients(learner, [rollout], advantages)
    rollout.latents[2] = float("nan") if broken else 5.0
    for stored in rollout.transitions:
        stored.next_latents[2] += 5.0
    assert same(with_it, gradients(learner, [rollout], advantages))


@pytest.mark.parametrize("name", EVERY)
def test_small_micro_batches_accumulate_to_one_large_batch(tuned: Policy, name: str) -> None:
    """Pitfall 13, in float32: what differs is rounding, 1e-5 of the largest gradient."""
    parts, whole = groups(tuned, 2), groups(tuned, 6)
    learner, advantages = learner_of(tuned, name), judged(parts)
    one = gradients(learner, parts, advantages)
    other = gradients(learner, whole, advantages)
    scale = max(grad.abs().max().item() for grad in one.values())
    assert scale > 0
    for key, grad in one.items():
        torch.testing.assert_close(grad, other[key], rtol=1e-3, atol=2e-5 * scale)


@pytest.mark.parametrize("name", EVERY)
def test_several_updates_of_one_rollout_each_move_the_weights(fresh: Policy, name: str) -> None:
    learner = learner_of(fresh, name, updates_per_rollout=3)
    rollout, before = a_group(fresh), state_of(fresh)
    metrics = run(learner, [rollout], judged([rollout]))
    assert [m.update for m in metrics] == [1, 2, 3]
    assert learner.rollouts == 1
    assert len({m.grad_norm for m in metrics}) == 3
    assert not same(before, state_of(fresh))


@pytest.mark.parametrize("name", ["flow_grpo", "guard", "ddpo", "awm"])
def test_a_ratio_is_one_in_the_first_update_of_a_rollout_and_not_in_the_second(
    fresh: Policy, name: str
) -> None:
    """Pitfall 5."""
    learner = learner_of(fresh, name, updates_per_rollout=2)
    rollout = a_group(fresh)
    for _ in range(2):
        first, second = run(learner, [rollout], judged([rollout]))
        assert first.means["ratio"] == 1
        assert second.means["ratio"] != 1


@pytest.mark.parametrize("name", EVERY)
def test_copies_and_the_base_get_no_gradient_and_what_learns_stays_what_learns(
    fresh: Policy, name: str
) -> None:
    """Pitfall 19: looking through other weights changes neither them nor who learns."""
    learner = learner_of(fresh, name, updates_per_rollout=2)
    learns = {key: p.requires_grad for key, p in fresh.network.named_parameters()}
    rollout = a_group(fresh)
    copies = {which: {k: v.clone() for k, v in c.items()} for which, c in learner.copies.items()}
    gradients(learner, [rollout], judged([rollout]))
    assert {key: p.requires_grad for key, p in fresh.network.named_parameters()} == learns
    assert all(p.grad is None for p in fresh.network.parameters() if not p.requires_grad)
    for which, weights in learner.copies.items():
        assert same(weights, copies[which])
        assert not any(weight.requires_grad for weight in weights.values())


@pytest.mark.parametrize("name", EVERY)
def test_after_an_update_two_forwards_are_identical(fresh: Policy, name: str) -> None:
    """Pitfall 21: no dropout, no training mode."""
    rollout = a_group(fresh)
    run(learner_of(fresh, name), [rollout], judged([rollout]))
    assert not any(module.training for module in fresh.network.modules())
    once, again = (
        fresh.velocity(rollout.latents, 0.5, rollout.conditioning).detach().clone() for _ in range(2)
    )
    assert torch.equal(once, again)


@pytest.mark.parametrize("name", EVERY)
def test_no_algorithm_steps_on_a_gradient_that_is_no_number(tuned: Policy, name: str) -> None:
    """Pitfall 17: weights, moments, average and copies stay as they are, and the step is counted."""
    learner = learner_of(tuned, name)
    run(learner, [a_group(tuned)], judged([a_group(tuned)]))
    rollout = a_group(tuned)
    before, moments = state_of(tuned), {k: v.clone() for k, v in learner.optimizer_tensors().items()}
    average = {k: v.clone() for k, v in learner.ema.items()}
    rollout.latents[:] = 1e30  # finite, and nothing that follows from it
    for stored in rollout.transitions:
        stored.next_latents[:] = float("inf")
    (metrics,) = run(learner, [rollout], judged([rollout]))
    assert metrics.is_skipped
    assert learner.skipped == 1
    assert same(before, state_of(tuned))
    assert same(average, learner.ema)
    assert same(moments, learner.optimizer_tensors())


@pytest.mark.parametrize("name", EVERY)
def test_an_update_follows_from_its_seeds_in_every_algorithm(fresh: Policy, name: str) -> None:
    before, results = state_of(fresh), []
    for _ in range(2):
        with torch.no_grad():
            for key, parameter in fresh.trainable_parameters().items():
                parameter.copy_(before[key])
        rollout = a_group(fresh)
        run(learner_of(fresh, name, updates_per_rollout=2), [rollout], judged([rollout]))
        results.append(state_of(fresh))
    assert same(*results)

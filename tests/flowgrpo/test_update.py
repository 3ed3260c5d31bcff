from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from flowgrpo.advantages import Advantages, combine
from flowgrpo.choices import FlowGRPO
from flowgrpo.config import LoraConfig, RunConfig, UpdateConfig
from flowgrpo.learner import Learner
from flowgrpo.policies import Policy
from flowgrpo.rollout import Progress
from flowgrpo.update import update
from tests.flowgrpo.conftest import a_group, perturb, same, state_of
from tests.flowgrpo.variants import gradients, judged, run


@pytest.fixture
def fresh(policy: Policy) -> Policy:
    policy.attach_lora(LoraConfig(rank=4, alpha=8.0), seed=1)
    return policy


def test_the_first_step_sees_ratio_one_and_no_kl(fresh: Policy) -> None:
    (metrics,) = run(
        learner := Learner(fresh, UpdateConfig()), [rollout := a_group(fresh)], judged([rollout])
    )
    assert metrics.peaks["ratio_error"] == 0
    assert metrics.means["ratio"] == 1
    assert metrics.means["clip_fraction"] == 0
    assert metrics.kl == 0
    assert metrics.grad_norm > 0
    assert metrics.num_samples == 6
    assert (learner.update, learner.skipped, metrics.update, metrics.is_skipped) == (1, 0, 1, False)
    numbers = {**metrics.means, **metrics.peaks, "loss": metrics.loss, "norm": metrics.grad_norm}
    assert all(math.isfinite(value) for value in numbers.values())


def test_later_steps_on_one_rollout_move_the_ratio_and_can_be_clipped(fresh: Policy) -> None:
    config = UpdateConfig(updates_per_rollout=3, clip_nats=0.01, learning_rate=1e-2)
    rollout = a_group(fresh)
    first, second, third = run(Learner(fresh, config), [rollout], judged([rollout]))
    assert first.peaks["ratio_error"] == 0
    assert first.means["ratio"] == 1
    assert second.means["ratio"] != 1
    assert third.means["clip_fraction"] > 0


def test_every_lora_tensor_gets_gradient(fresh: Policy) -> None:
    learner, rollout = Learner(fresh, UpdateConfig()), a_group(fresh, guidance_scale=2.0)
    at_first = gradients(learner, [rollout], judged([rollout]))
    assert all((grad != 0).any() for name, grad in at_first.items() if "lora_B" in name)
    assert at_first.keys() == learner.parameters.keys()
    run(learner, [rollout], judged([rollout]))
    afterwards = gradients(learner, [rollout], judged([rollout]))
    assert all((grad != 0).any() for grad in afterwards.values())


def test_every_lora_tensor_changes_within_two_updates(fresh: Policy) -> None:
    before, learner, rollout = state_of(fresh), Learner(fresh, UpdateConfig()), a_group(fresh)
    for _ in range(2):
        run(learner, [rollout], judged([rollout]))
    assert not any(torch.equal(before[name], tensor) for name, tensor in state_of(fresh).items())


def test_accumulation_is_one_large_batch(tuned: Policy) -> None:
    parts = [a_group(tuned, micro_batch_size=2), a_group(tuned, "blue hair", micro_batch_size=2)]
    whole = [a_group(tuned, micro_batch_size=6), a_group(tuned, "blue hair", micro_batch_size=6)]
    learner, advantages = Learner(tuned, UpdateConfig(kl_weight=0.1)), judged(parts)
    one, other = gradients(learner, parts, advantages), gradients(learner, whole, advantages)
    scale = max(grad.abs().max().item() for grad in one.values())
    for name, grad in one.items():
        torch.testing.assert_close(grad, other[name], rtol=1e-3, atol=1e-4 * scale)


def test_the_gradient_is_that_of_the_mean_over_samples_and_steps(tuned: Policy) -> None:
    """One group twice gives the gradient of one group once."""
    rollout = a_group(tuned)
    advantages = judged([rollout])
    double = Advantages(
        advantages.values.repeat(2, 1), advantages.is_counted.repeat(2, 1), advantages.dead_groups.repeat(2)
    )
    learner = Learner(tuned, UpdateConfig())
    once, twice = gradients(learner, [rollout], advantages), gradients(learner, [rollout, rollout], double)
    for name, grad in once.items():
        torch.testing.assert_close(grad, twice[name], rtol=1e-4, atol=1e-9)


def test_a_dead_group_changes_nothing(tuned: Policy) -> None:
    live, dead = a_group(tuned), a_group(tuned, "blue hair")
    rewards = torch.stack([torch.arange(6.0), torch.full((6,), 2.0)])
    learner = Learner(tuned, UpdateConfig())
    both = gradients(learner, [live, dead], combine({"r": rewards}, {"r": 1.0}, {"r": 1.0}))
    alone = gradients(learner, [live], combine({"r": rewards[:1]}, {"r": 1.0}, {"r": 1.0}))
    assert same(both, alone)


@pytest.mark.parametrize("value", [0.5, float("nan")])
def test_without_anything_to_learn_no_weight_and_no_moment_moves(tuned: Policy, value: float) -> None:
    learner, rollout = Learner(tuned, UpdateConfig(weight_decay=0.5)), a_group(tuned)
    run(learner, [rollout], judged([rollout]))
    before, moments, ema = state_of(tuned), learner.optimizer_tensors(), dict(learner.ema)
    moments, ema = ({k: v.clone() for k, v in tensors.items()} for tensors in (moments, ema))
    nothing = combine({"r": torch.full((1, 6), value)}, {"r": 1.0}, {"r": 1.0})
    (metrics,) = run(learner, [rollout], nothing)
    assert metrics.num_samples == 0
    assert same(before, state_of(tuned))
    assert same(moments, learner.optimizer_tensors())
    assert same(ema, learner.ema)


def test_a_sample_without_score_changes_nothing(tuned: Policy) -> None:
    """Its log_probs and its KL are left out; the micro-batch it sits in stays, so that replay stays exact."""
    rollout = a_group(tuned, micro_batch_size=6)
    rewards = torch.arange(6.0)[None]
    rewards[0, 2] = float("nan")
    advantages = combine({"r": rewards}, {"r": 1.0}, {"r": 1.0})
    learner = Learner(tuned, UpdateConfig(kl_weight=0.1))
    with_it = gradients(learner, [rollout], advantages)
    for stored in rollout.transitions:
        stored.next_latents[2] += 5.0  # whatever it did
    assert same(with_it, gradients(learner, [rollout], advantages))


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_skips_the_step_and_is_counted(tuned: Policy, poison: float) -> None:
    learner, rollout = Learner(tuned, UpdateConfig()), a_group(tuned)
    run(learner, [rollout], judged([rollout]))
    before, moments = state_of(tuned), {k: v.clone() for k, v in learner.optimizer_tensors().items()}
    rollout.transitions[0].next_latents[1] = poison
    (metrics,) = run(learner, [rollout], judged([rollout]))
    assert metrics.is_skipped
    assert learner.skipped == 1
    assert same(before, state_of(tuned))
    assert same(moments, learner.optimizer_tensors())
    (healthy,) = run(learner, [a_group(tuned)], judged([rollout]))
    assert not healthy.is_skipped


def test_kl_pulls_a_perturbed_policy_back_to_the_reference(fresh: Policy) -> None:
    perturb(fresh, 0.1)
    learner, rollout = Learner(fresh, UpdateConfig(kl_weight=100.0, learning_rate=3e-3)), a_group(fresh)
    even = Advantages(torch.zeros(1, 6), torch.ones(1, 6, dtype=torch.bool), torch.zeros(1, dtype=torch.bool))
    kls = [run(learner, [rollout], even)[0].kl for _ in range(6)]
    assert kls[0] > 0
    assert kls[-1] < 0.8 * kls[0]


def test_a_guided_reference_teaches_the_policy_what_guidance_does(fresh: Policy) -> None:
    """Nothing is rewarded: what is learned is the guided base, at one network call where that takes two."""
    config = UpdateConfig(kl_weight=100.0, reference_guidance=3.0, learning_rate=3e-3, ema_decay=0.0)
    learner = Learner(fresh, config)
    rollout = a_group(fresh, keeps_negative=True)
    stored, told = rollout.transitions[0], rollout.conditioning
    with torch.no_grad(), fresh.reference():
        guided = fresh.velocity(stored.latents, stored.t, told, 3.0)
        plain = fresh.velocity(stored.latents, stored.t, told)
    even = Advantages(torch.zeros(1, 6), torch.ones(1, 6, dtype=torch.bool), torch.zeros(1, dtype=torch.bool))
    first, *_, last = (run(learner, [rollout], even)[0].kl for _ in range(12))
    assert first > 0
    assert last < 0.5 * first
    with torch.no_grad():
        now = fresh.velocity(stored.latents, stored.t, told)
    assert (now - guided).square().mean() < 0.7 * (plain - guided).square().mean()


def test_held_steps_are_where_the_sampler_came_by_and_change_no_sample(fresh: Policy) -> None:
    plain, rollout = a_group(fresh), a_group(fresh, held=(0, 3))
    assert torch.equal(plain.latents, rollout.latents)
    first, last = rollout.visits
    assert (first.step, first.t) == (0, rollout.times[0])
    assert torch.equal(first.latents, rollout.transitions[0].latents)
    assert last.t == rollout.times[3]
    with torch.no_grad():
        velocity = fresh.velocity(last.latents[:4], last.t, rollout.conditioning.rows(slice(0, 4)))
    torch.testing.assert_close(last.latents[:4] - last.t * velocity, rollout.latents[:4])


def test_no_reward_speaks_at_held_steps(fresh: Policy) -> None:
    rollout = a_group(fresh, held=(3,))
    alone = replace(rollout, visits=())
    learner = Learner(fresh, UpdateConfig(kl_weight=1e-12))
    with_it, without = (gradients(learner, [one], judged([one])) for one in (rollout, alone))
    for name, grad in without.items():
        torch.testing.assert_close(with_it[name], grad, rtol=1e-3, atol=1e-9)


def test_the_kl_is_the_mean_over_trained_and_held_steps(fresh: Policy) -> None:
    perturb(fresh, 0.1)
    rollout = a_group(fresh, held=(3,))
    told, states = rollout.conditioning, [(stored.latents, stored.t) for stored in rollout.transitions]
    states += [(visit.latents, visit.t) for visit in rollout.visits]
    with torch.no_grad():
        now = [fresh.velocity(latents, t, told) for latents, t in states]
        with fresh.reference():
            base = [fresh.velocity(latents, t, told) for latents, t in states]
    mean = sum((one - other).square().mean().item() for one, other in zip(now, base, strict=True)) / 3
    (metrics,) = run(Learner(fresh, UpdateConfig(kl_weight=1.0)), [rollout], judged([rollout]))
    assert metrics.kl == pytest.approx(mean, rel=1e-4)


def test_without_kl_weight_the_reference_is_not_asked(fresh: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh, "reference", None)
    rollout = a_group(fresh)
    (metrics,) = run(Learner(fresh, UpdateConfig(kl_weight=0)), [rollout], judged([rollout]))
    assert metrics.kl == 0


def test_zero_advantages_give_no_policy_gradient(fresh: Policy) -> None:
    rollout = a_group(fresh)
    even = Advantages(torch.zeros(1, 6), torch.ones(1, 6, dtype=torch.bool), torch.zeros(1, dtype=torch.bool))
    assert all(
        (grad == 0).all() for grad in gradients(Learner(fresh, UpdateConfig()), [rollout], even).values()
    )


def test_the_average_follows_and_warms_up(fresh: Policy) -> None:
    learner, rollout = Learner(fresh, UpdateConfig(ema_decay=0.9)), a_group(fresh)
    start = state_of(fresh)
    run(learner, [rollout], judged([rollout]))
    decay = 2 / 11
    for name, tensor in learner.ema.items():
        torch.testing.assert_close(tensor, decay * start[name] + (1 - decay) * state_of(fresh)[name])
        assert tensor.data_ptr() != learner.parameters[name].data_ptr()


def test_stopping_in_the_middle_leaves_the_weights_of_the_last_step(fresh: Policy) -> None:
    learner, rollout, before = Learner(fresh, UpdateConfig()), a_group(fresh), state_of(fresh)
    gradients(learner, [rollout], judged([rollout]))
    assert same(before, state_of(fresh))
    assert learner.update == 0


def test_an_update_follows_from_its_seeds(tiny_folder: object, fresh: Policy) -> None:
    before, results = state_of(fresh), []
    for _ in range(2):
        with torch.no_grad():
            for name, parameter in fresh.trainable_parameters().items():
                parameter.copy_(before[name])
        learner, rollout = Learner(fresh, UpdateConfig()), a_group(fresh)
        run(learner, [rollout], judged([rollout]))
        results.append(state_of(fresh))
    assert same(*results)


def test_what_does_not_belong_together_is_refused(fresh: Policy, policy: Policy) -> None:
    rollout = a_group(fresh)
    with pytest.raises(ValueError, match="expected one rollout per group, got 2 for 1 groups"):
        run(Learner(fresh, UpdateConfig()), [rollout, rollout], judged([rollout]))


def test_a_policy_without_adapter_cannot_learn(policy: Policy) -> None:
    with pytest.raises(ValueError, match="attach a LoRA first"):
        Learner(policy, UpdateConfig())


def test_minibatches_are_optimiser_steps_on_shares_of_one_pass(fresh: Policy) -> None:
    config = UpdateConfig(minibatches=3, kl_weight=0, learning_rate=1e-2, clip_nats=0.01)
    learner, rollout = Learner(fresh, config), a_group(fresh, micro_batch_size=1)
    (metrics,) = run(learner, [rollout], judged([rollout]))
    assert {state["step"].item() for state in learner.optimizer.state.values()} == {3}
    assert (learner.update, learner.rollouts, metrics.update, metrics.num_samples) == (1, 1, 1, 6)
    assert metrics.peaks["ratio_error"] == 0
    assert metrics.means["ratio"] != 1
    assert metrics.means["clip_fraction"] > 0


def test_a_later_minibatch_is_measured_against_the_sampler(fresh: Policy) -> None:
    """With a rate that moves nothing its ratio is 1 as well."""
    config = UpdateConfig(minibatches=4, kl_weight=0, learning_rate=1e-12)
    rollout = a_group(fresh, micro_batch_size=2)
    (metrics,) = run(Learner(fresh, config), [rollout], judged([rollout]))
    assert metrics.means["ratio"] == pytest.approx(1, abs=1e-6)


def test_a_ratio_without_bias_is_for_one_minibatch() -> None:
    with pytest.raises(ValidationError, match="choose ratio full, or one minibatch"):
        RunConfig(
            prompts=("a",), reward_weights={"clip": 1}, algorithm=FlowGRPO(ratio="guard"),
            update=UpdateConfig(minibatches=2),
        )  # fmt: skip


def test_more_minibatches_than_there_is_to_learn_from_are_as_many_as_there_is(fresh: Policy) -> None:
    learner, rollout = Learner(fresh, UpdateConfig(minibatches=64)), a_group(fresh, micro_batch_size=6)
    run(learner, [rollout], judged([rollout]))
    assert {state["step"].item() for state in learner.optimizer.state.values()} == {2}
    assert learner.update == 1


def test_from_its_second_minibatch_on_an_update_is_no_place_to_stop(fresh: Policy) -> None:
    learner, rollout = Learner(fresh, UpdateConfig(minibatches=2)), a_group(fresh, micro_batch_size=3)
    steps = [step for step in update(learner, [rollout], judged([rollout])) if isinstance(step, Progress)]
    assert [step.done for step in steps] == [1, 2, 3, 4]
    assert [step.is_halfway for step in steps] == [False, False, True, True]

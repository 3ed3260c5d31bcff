"""What an update changes: who learns, in which precision, by which optimiser."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flowgrpo.choices import SFT
from flowgrpo.config import LoraConfig, UpdateConfig
from flowgrpo.given import all_count, given_rollout
from flowgrpo.learner import CALM_STEPS, FIRST_LOSS_SCALE, Learner
from flowgrpo.policies import Policy, load_policy
from tests.flowgrpo.conftest import a_group, same, state_of
from tests.flowgrpo.variants import gradients, judged, run


def test_a_swap_to_the_average_and_back_is_the_identity_bit_by_bit(tuned: Policy) -> None:
    """Pitfall 18: on a CPU nothing less than a clone is a copy."""
    learner = Learner(tuned, UpdateConfig(learning_rate=1e-2))
    run(learner, [rollout := a_group(tuned)], judged([rollout]))
    now, average = state_of(tuned), {k: v.clone() for k, v in learner.ema.items()}
    assert not same(now, average)
    with tuned.weights(learner.ema):
        assert same(state_of(tuned), average)
    assert same(state_of(tuned), now)
    assert same(learner.ema, average)
    assert all(p.requires_grad for p in learner.parameters.values())


def test_the_average_moves_once_an_update_and_not_once_a_micro_batch(tuned: Policy) -> None:
    """Pitfall 18."""
    learner, start = Learner(tuned, UpdateConfig()), state_of(tuned)
    run(learner, [rollout := a_group(tuned, micro_batch_size=1)], judged([rollout]))
    decay = 2 / 11
    for name, tensor in learner.ema.items():
        torch.testing.assert_close(tensor, decay * start[name] + (1 - decay) * state_of(tuned)[name])


def averages(
    folder: Path, start: dict[str, torch.Tensor] | None, extrapolation: float
) -> dict[str, torch.Tensor]:
    """After two updates of the same work, from a fresh adapter or from other weights."""
    policy = load_policy(folder)
    policy.attach_lora(LoraConfig(rank=4, alpha=8.0), seed=1)
    learner = Learner(policy, UpdateConfig(learning_rate=1e-2, extrapolation=extrapolation))
    if start is not None:
        learner.start_from(start)
    for seed in range(2):
        run(learner, [rollout := a_group(policy)], judged([rollout], seed))
    return learner.ema


@pytest.mark.parametrize("is_fresh", [True, False])
def test_an_extrapolated_average_lies_further_from_the_start_by_its_share(
    tiny_folder: Path, tuned: Policy, is_fresh: bool
) -> None:
    """ExPO on the half of the adapter that starts at 0; what learns and is sampled with is untouched."""
    start = None if is_fresh else state_of(tuned)
    plain, further = averages(tiny_folder, start, 0.0), averages(tiny_folder, start, 0.5)
    for name, tensor in plain.items():
        begun = torch.zeros_like(tensor) if start is None else start[name]
        wanted = tensor if ".lora_A." in name else begun + 1.5 * (tensor - begun)
        torch.testing.assert_close(further[name], wanted)
    assert not same(plain, further)


def test_with_recomputed_activations_every_gradient_is_the_same(tuned: Policy) -> None:
    """Pitfall 20: gradients reach every tensor of the adapter although no input asks for one."""
    rollout = a_group(tuned)
    plain = gradients(Learner(tuned, UpdateConfig()), [rollout], judged([rollout]))
    learner = Learner(tuned, UpdateConfig(gradient_checkpointing=True))
    assert tuned.network.is_gradient_checkpointing
    again = gradients(learner, [rollout], judged([rollout]))
    assert all((grad != 0).any() for grad in again.values())
    for name, grad in plain.items():
        torch.testing.assert_close(again[name], grad)


# float16


@pytest.fixture
def half(tiny_folder: Path) -> Policy:
    policy = load_policy(tiny_folder, dtype=torch.float16)
    policy.attach_lora(LoraConfig(rank=4, alpha=8.0), seed=1)
    return policy


def test_fifty_steps_on_a_float16_base_are_finite_and_its_adapter_is_float32(half: Policy) -> None:
    """Pitfall 23."""
    learner = Learner(half, UpdateConfig(learning_rate=1e-3, updates_per_rollout=10))
    before = state_of(half)
    for number in range(5):
        rollout = a_group(half, size=4, window=range(1), run_key=(number,))
        run(learner, [rollout], judged([rollout], seed=number))
    assert (learner.update, learner.skipped) == (50, 0)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in learner.parameters.values())
    assert not any(torch.equal(before[name], p) for name, p in learner.parameters.items())


def test_the_loss_scale_of_float16_falls_after_an_overflow_and_rises_after_a_calm_while(
    half: Policy,
) -> None:
    learner, before = Learner(half, UpdateConfig()), state_of(half)
    assert learner.loss_scale == FIRST_LOSS_SCALE

    def step(gradient: float) -> bool:
        for parameter in learner.parameters.values():
            parameter.grad = torch.full_like(parameter, gradient)
        return learner.step()[1]

    assert step(float("inf"))
    assert same(before, state_of(half))
    assert learner.loss_scale == FIRST_LOSS_SCALE / 2
    assert not any(step(1.0) for _ in range(CALM_STEPS))
    assert learner.loss_scale == FIRST_LOSS_SCALE
    other = Learner(half, UpdateConfig())
    other.load_state(learner.state())
    assert other.state() == learner.state()


def test_the_loss_scale_leaves_the_gradient_as_it_is(half: Policy) -> None:
    learner = Learner(half, UpdateConfig(max_grad_norm=1e9))
    parameter = next(iter(learner.parameters.values()))
    learner.backward(parameter.sum())
    norm, is_skipped = learner.step()
    assert norm == pytest.approx(parameter.numel() ** 0.5)
    assert not is_skipped


def test_float32_has_no_loss_scale(tuned: Policy) -> None:
    assert Learner(tuned, UpdateConfig()).loss_scale == 1


# All weights


def test_supervised_fine_tuning_without_adapter_changes_every_weight(policy: Policy) -> None:
    before = {name: p.detach().clone() for name, p in policy.network.named_parameters()}
    policy.unfreeze()
    learner = Learner(policy, UpdateConfig(kl_weight=0, weight_decay=0), SFT(folder="unused"))
    assert learner.parameters.keys() == before.keys()
    for number in range(2):
        images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(number))
        batch = given_rollout(policy, images, ["red hair"] * 4, range(4 * number, 4 * number + 4))
        run(learner, [batch], all_count(4))
    assert not any(torch.equal(before[name], p) for name, p in policy.network.named_parameters())


def test_only_supervised_fine_tuning_learns_without_adapter(policy: Policy) -> None:
    policy.unfreeze()
    with pytest.raises(ValueError, match="flow_grpo needs an adapter"):
        Learner(policy, UpdateConfig())


def test_all_weights_learn_in_float32_and_without_an_adapter_only(tiny_folder: Path, tuned: Policy) -> None:
    with pytest.raises(ValueError, match="set precision to float32"):
        load_policy(tiny_folder, dtype=torch.bfloat16).unfreeze()
    with pytest.raises(ValueError, match="has an adapter"):
        tuned.unfreeze()


# Eight bits


def test_eight_bit_moments_are_refused_with_a_sentence_where_they_cannot_be_had(tuned: Policy) -> None:
    """Never a silent substitute."""
    with pytest.raises(LookupError, match=r"adamw_8bit needs .*: .*choose adamw"):
        Learner(tuned, UpdateConfig(optimizer="adamw_8bit"))


def test_counts_that_are_plain_numbers_survive_like_those_that_are_tensors(tuned: Policy) -> None:
    """As bitsandbytes keeps its steps."""
    learner = Learner(tuned, UpdateConfig())
    run(learner, [rollout := a_group(tuned)], judged([rollout]))
    for parameter in learner.parameters.values():
        learner.optimizer.state[parameter]["step"] = 3
    tensors = learner.optimizer_tensors()
    other = Learner(tuned, UpdateConfig())
    other.load_optimizer_tensors(tensors)
    assert all(other.optimizer.state[p]["step"] == 3 for p in other.parameters.values())
    assert same(tensors, other.optimizer_tensors())

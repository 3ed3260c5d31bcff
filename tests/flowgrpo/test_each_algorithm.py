"""What sets each algorithm apart."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from flowgrpo.advantages import Advantages
from flowgrpo.algorithms import Piece, Tally, Terms, make_method
from flowgrpo.choices import AWM, DPO, NFT, RWR, SFT, Algorithm, FlowGRPO
from flowgrpo.config import LoraConfig, UpdateConfig
from flowgrpo.given import all_count, given_rollout, preferred
from flowgrpo.learner import Learner
from flowgrpo.policies import Policy, load_policy
from flowgrpo.rollout import Rollout, StoredTransition, Visit
from tests.flowgrpo.conftest import a_group, perturb, same, state_of
from tests.flowgrpo.variants import EVERY, FORWARD, gradients, judged, run
from tests.tiny_flow import tiny_flux


@pytest.fixture
def fresh(policy: Policy) -> Policy:
    policy.attach_lora(LoraConfig(rank=4, alpha=8.0), seed=1)
    return policy


def learner_of(policy: Policy, name: str) -> Learner:
    return Learner(policy, UpdateConfig(), EVERY[name])


# Policy gradients


def test_the_weight_of_a_step_scales_its_gradient(tuned: Policy) -> None:
    """Of one trained step the weight is 1, whatever the rule; of two, the rule tells."""
    rules = ("one", "tau", "inv_kappa")
    for window, differs in ((range(1), False), (range(2), True)):
        rollout = a_group(tuned, window=window)
        found = [
            gradients(
                Learner(tuned, UpdateConfig(), FlowGRPO(step_weight=rule)), [rollout], judged([rollout])
            )
            for rule in rules
        ]
        assert [same(found[0], other) for other in found[1:]] == [not differs, not differs]


def test_without_its_gradient_the_unconditional_half_is_a_constant(tuned: Policy) -> None:
    """Pitfall 16. v = u + w (c - u): what is left of the gradient at scale w is the conditional half's."""
    rollout = a_group(tuned, guidance_scale=3.0)
    both, conditional = (
        gradients(
            Learner(tuned, UpdateConfig(kl_weight=0), FlowGRPO(unconditional_gradient=learns)),
            [rollout],
            judged([rollout]),
        )
        for learns in (True, False)
    )
    assert not same(both, conditional)
    assert all((grad != 0).any() for grad in conditional.values())
    other = {name: tensor + 1 for name, tensor in rollout.conditioning.unconditional().items()}
    told = replace(rollout, conditioning=replace(rollout.conditioning, negative=other))
    for learns, before in ((True, both), (False, conditional)):
        learner = Learner(tuned, UpdateConfig(kl_weight=0), FlowGRPO(unconditional_gradient=learns))
        assert same(gradients(learner, [told], judged([told])), before) != learns
    (metrics,) = run(Learner(tuned, UpdateConfig()), [rollout], judged([rollout]))
    assert metrics.peaks["ratio_error"] < 1e-4


def test_the_unconditional_half_is_what_the_sampler_saw_and_is_not_computed_again(tuned: Policy) -> None:
    rollout = a_group(tuned, guidance_scale=3.0, held=(3,))
    told = rollout.conditioning
    steps: list[StoredTransition | Visit] = [*rollout.transitions, *rollout.visits]
    for kept in steps:
        for rows in rollout.micro_batches:
            assert kept.unconditional is not None
            taken = kept.latents[rows], kept.t, told.rows(rows), 3.0
            with torch.no_grad():
                velocity, half = tuned.velocity_and_half(*taken)
            assert half is not None
            assert torch.equal(kept.unconditional[rows], half)
            one_half = tuned.velocity(*taken, unconditional=kept.unconditional[rows])
            torch.testing.assert_close(one_half, velocity, rtol=1e-3, atol=1e-4)
            assert one_half.requires_grad
    plain = a_group(tuned, held=(3,))
    steps = [*plain.transitions, *plain.visits]
    assert [kept.unconditional for kept in steps] == [None, None, None]


# Losses on re-noised images


@pytest.mark.parametrize("algorithm", [NFT(), AWM(), RWR(), DPO()], ids=lambda a: a.name)
def test_a_network_that_takes_guidance_as_a_number_is_asked_with_the_rollouts(
    tmp_path_factory: pytest.TempPathFactory, algorithm: Algorithm
) -> None:
    """FLUX.1-dev; asked with 1 it would be another network than the one that made the images."""
    policy = load_policy(tiny_flux(tmp_path_factory.mktemp("flux") / "pipeline"))
    policy.attach_lora(LoraConfig(rank=2))
    rollout = a_group(policy, guidance_scale=3.5, window=range(0))
    method = make_method(Learner(policy, UpdateConfig(), algorithm))
    assert {piece.guidance_scale for piece in method.pieces([rollout], judged([rollout]))} == {3.5}


@pytest.mark.parametrize("name", FORWARD)
def test_each_image_has_levels_of_its_own_from_the_noisy_end_without_repetition(
    tuned: Policy, name: str
) -> None:
    rollout = a_group(tuned, micro_batch_size=6, num_steps=8)
    method = make_method(learner_of(tuned, name))
    pieces = list(method.pieces([rollout], judged([rollout])))
    assert len(pieces) == 2
    first, second = (piece.t for piece in pieces)
    assert isinstance(first, torch.Tensor)
    assert set(first.tolist()) <= set(rollout.times[:4])
    assert len(set(first.tolist())) > 1
    assert (first != second).all()


def test_levels_come_up_again_only_when_all_have_been(tuned: Policy) -> None:
    rollout = a_group(tuned, micro_batch_size=6)
    method = make_method(Learner(tuned, UpdateConfig(), NFT(levels=4, noisiest=0.5)))
    times = torch.stack([torch.as_tensor(p.t) for p in method.pieces([rollout], judged([rollout]))])
    candidates = sorted(rollout.times[:2])
    assert all(sorted(part.tolist()) == candidates for half in times.chunk(2) for part in half.T)
    assert not torch.equal(*[p.latents for p in method.pieces([rollout], judged([rollout]))][:2])


def test_the_re_noised_latents_are_on_the_path_from_image_to_noise(tuned: Policy) -> None:
    rollout = a_group(tuned, micro_batch_size=6)
    for piece in make_method(learner_of(tuned, "awm")).pieces([rollout], judged([rollout])):
        assert piece.target is not None
        t = torch.as_tensor(piece.t).view(-1, 1, 1, 1)
        clean = piece.latents - t * piece.target
        torch.testing.assert_close(clean.float(), rollout.latents, atol=1e-5, rtol=1e-4)
        assert (piece.target + rollout.latents).std() == pytest.approx(1, abs=0.1)


def test_the_first_steps_of_nft_and_awm_point_the_same_way(fresh: Policy) -> None:
    """Finding 9: both are A times the gradient of the matching loss, at one level times 2 t^2 and 2 t / 5."""
    rollout = a_group(fresh, micro_batch_size=6)
    one_level = {"levels": 1, "noisiest": 0.01}
    nft, awm = (
        gradients(Learner(fresh, UpdateConfig(kl_weight=0), algorithm), [rollout], judged([rollout]))
        for algorithm in (NFT(adaptive=False, **one_level), AWM(power=1.0, **one_level))
    )
    t = rollout.times[0]
    scale = max(grad.abs().max().item() for grad in nft.values())
    for key, grad in nft.items():
        torch.testing.assert_close(grad, 5 * t * awm[key], rtol=1e-4, atol=1e-5 * scale)


def test_nft_samples_with_the_old_policy_which_follows_more_slowly_as_the_run_goes(fresh: Policy) -> None:
    learner = Learner(fresh, UpdateConfig(learning_rate=1e-2), NFT(levels=1, old_rate=0.2, old_max=0.3))
    expected = state_of(fresh)
    for number in (1, 2, 3):
        with learner.behaviour():
            assert same(state_of(fresh), learner.copies["old"])
            rollout = a_group(fresh)
        run(learner, [rollout], judged([rollout], seed=number))
        decay = min(0.2 * number, 0.3)
        expected = {k: v.lerp(state_of(fresh)[k], 1 - decay) for k, v in expected.items()}
        for key, weight in learner.copies["old"].items():
            torch.testing.assert_close(weight, expected[key])
        assert not same(state_of(fresh), learner.copies["old"])


@pytest.mark.parametrize("name", [name for name in EVERY if not name.startswith("nft")])
def test_every_other_algorithm_samples_with_the_current_policy(tuned: Policy, name: str) -> None:
    learner, before = learner_of(tuned, name), state_of(tuned)
    perturb(tuned, seed=9)
    now = state_of(tuned)
    with learner.behaviour():
        assert same(now, state_of(tuned))
    assert not same(now, before)


def test_awm_is_tethered_to_an_average_that_follows_each_step(fresh: Policy) -> None:
    learner = Learner(
        fresh, UpdateConfig(updates_per_rollout=2, kl_weight=0), AWM(levels=1, ema_kl_decay=0.05)
    )
    before, rollout = state_of(fresh), a_group(fresh)
    first, second = run(learner, [rollout], judged([rollout]))
    assert first.means["drift"] == 0
    assert second.means["drift"] > 0
    assert not same(before, learner.copies["average"])
    for key, weight in learner.copies["average"].items():
        assert (weight - state_of(fresh)[key]).abs().max() < (before[key] - state_of(fresh)[key]).abs().max()


def test_a_low_temperature_imitates_the_best_image_alone(tuned: Policy) -> None:
    rollout = a_group(tuned, micro_batch_size=6)
    advantages = judged([rollout])
    best = advantages.values[0].argmax()
    only = Advantages(advantages.values, torch.arange(6)[None] == best, advantages.dead_groups)
    cold, alone = (
        gradients(Learner(tuned, UpdateConfig(kl_weight=0), RWR(temperature=0.001)), [rollout], which)
        for which in (advantages, only)
    )
    for key, grad in alone.items():
        torch.testing.assert_close(cold[key], grad, rtol=1e-3, atol=1e-7)


def test_rwr_regresses_velocities_whatever_the_network_predicts(tuned: Policy) -> None:
    rollout = a_group(tuned, micro_batch_size=6)
    method = make_method(Learner(tuned, UpdateConfig(kl_weight=0), RWR(levels=1)))
    (piece,) = method.pieces([rollout], judged([rollout]))
    assert piece.target is not None
    velocity = method.velocity(piece)
    squared = (velocity - piece.target).square().flatten(1).mean(1)
    loss = method.objective(piece, velocity, Tally())
    torch.testing.assert_close(loss.float(), piece.advantages * squared, rtol=1e-4, atol=1e-6)
    assert tuned.prediction == "epsilon"


@pytest.mark.parametrize(("name", "is_anew"), [("nft", True), ("rwr", True), ("sft", True), ("awm", False)])
def test_a_later_update_of_a_rollout_sees_other_noise_except_where_a_ratio_needs_the_same(
    tuned: Policy, name: str, is_anew: bool
) -> None:
    config = UpdateConfig(updates_per_rollout=2, learning_rate=1e-12, kl_weight=0)
    rollout = a_group(tuned, micro_batch_size=6)
    first, second = run(Learner(tuned, config, EVERY[name]), [rollout], judged([rollout]))
    assert (first.loss != pytest.approx(second.loss, rel=1e-4)) == is_anew


# Preferences


def test_dpo_learns_from_the_best_and_the_worst_of_a_group_alone(tuned: Policy) -> None:
    rollout = a_group(tuned, micro_batch_size=6)
    advantages = judged([rollout])
    order = advantages.values[0].argsort()
    learner = Learner(tuned, UpdateConfig(kl_weight=0), DPO(levels=1))
    whole = gradients(learner, [rollout], advantages)
    rollout.latents[order[1:-1]] += 1.0
    assert same(whole, gradients(learner, [rollout], advantages))
    rollout.latents[order[0]] += 1.0
    assert not same(whole, gradients(learner, [rollout], advantages))


def test_both_images_of_a_pair_have_one_noise_and_one_level(tuned: Policy) -> None:
    rollouts = [a_group(tuned, prompt) for prompt in ("red hair", "blue hair", "buns")]
    pieces = list(
        make_method(Learner(tuned, UpdateConfig(), DPO(levels=3))).pieces(rollouts, judged(rollouts))
    )
    assert [len(piece.latents) for piece in pieces] == [4] * 3 + [2] * 3
    for piece in pieces:
        better, worse = torch.as_tensor(piece.t).chunk(2)
        assert torch.equal(better, worse)
        assert piece.target is not None
        clean = piece.latents - torch.as_tensor(piece.t).view(-1, 1, 1, 1) * piece.target
        one, other = (piece.target + clean).chunk(2)
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_dpo_starts_at_ln_2_and_comes_to_prefer_what_people_preferred(fresh: Policy) -> None:
    """Offline: pairs of given images, the better one first."""
    generator = torch.Generator().manual_seed(0)
    pairs = [
        given_rollout(fresh, torch.rand(2, 3, 16, 16, generator=generator), [prompt] * 2, [7 + i, 70 + i])
        for i, prompt in enumerate(("red hair", "blue hair", "buns"))
    ]
    assert len(pairs[0].times) == 1001
    config = UpdateConfig(learning_rate=1e-2, kl_weight=0)
    learner = Learner(fresh, config, DPO(levels=4, beta=50.0, refresh_every=0))
    metrics = [run(learner, pairs, preferred(3))[0] for _ in range(8)]
    assert metrics[0].loss == pytest.approx(math.log(2))
    assert metrics[0].means["accuracy"] == 0.5
    assert metrics[-1].loss < metrics[0].loss
    assert metrics[-1].means["accuracy"] > 0.8
    assert metrics[-1].means["margin"] > 0


def test_after_a_refresh_dpo_compares_with_the_policy_of_then(fresh: Policy) -> None:
    config = UpdateConfig(learning_rate=1e-2, kl_weight=0.1)
    learner = Learner(fresh, config, DPO(levels=1, refresh_every=2))
    losses = []
    for number in range(3):
        rollout = a_group(fresh)
        losses.append(run(learner, [rollout], judged([rollout], seed=number))[0])
    assert losses[0].loss == pytest.approx(math.log(2))
    assert losses[1].loss != pytest.approx(math.log(2), abs=1e-4)
    assert losses[2].loss == pytest.approx(math.log(2))
    assert losses[2].kl > 0
    assert not same(learner.copies["reference"], state_of(fresh))


# Supervised fine-tuning


@pytest.mark.parametrize("weighting", ["debiased", "uniform"])
def test_supervised_fine_tuning_lowers_the_loss_of_a_tiny_captioned_set(
    fresh: Policy, weighting: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(8, 3, 1, 1, generator=generator).expand(8, 3, 16, 16)
    captions = ["red hair", "blue hair", "long hair", "buns"] * 2
    config = UpdateConfig(learning_rate=1e-2, kl_weight=0)
    learner = Learner(fresh, config, SFT.model_validate({"folder": "unused", "weighting": weighting}))
    same_noise = list(method_pieces(learner, given_rollout(fresh, images, captions, range(8))))
    before = losses_of(learner, same_noise)
    for number in range(1, 25):
        seeds = range(100 * number, 100 * number + 8)
        run(learner, [given_rollout(fresh, images, captions, seeds)], all_count(8))
    assert losses_of(learner, same_noise) < 0.9 * before


def method_pieces(learner: Learner, batch: Rollout) -> Iterator[Piece]:
    for _ in range(4):
        yield from make_method(learner).pieces([batch], all_count(len(batch.seeds)))
        batch = replace(batch, seeds=tuple(seed + 50 for seed in batch.seeds))


def losses_of(learner: Learner, pieces: list[Piece]) -> float:
    with torch.no_grad():
        return sum(make_method(learner).loss(piece, Tally(), Terms()).item() for piece in pieces)


def test_an_image_without_its_caption_is_learned_as_the_unconditional_one(fresh: Policy) -> None:
    images, dropped = torch.zeros(2, 3, 16, 16), torch.tensor([True, False])
    batch = given_rollout(fresh, images, ["red hair"] * 2, [0, 1], dropped=dropped)
    whole = fresh.encode(["red hair"] * 2, guided=True, width=16, height=16)
    for key, row in batch.conditioning.positive.items():
        assert torch.equal(row[0], whole.unconditional()[key][0])
        assert torch.equal(row[1], whole.positive[key][1])


def test_the_levels_of_given_images_are_those_that_the_model_was_trained_at(fresh: Policy) -> None:
    batch = given_rollout(fresh, torch.zeros(64, 3, 16, 16), ["buns"] * 64, range(64))
    learner = Learner(fresh, UpdateConfig(), SFT(folder="unused"))
    times = torch.cat(
        [torch.as_tensor(piece.t) for piece in make_method(learner).pieces([batch], all_count(64))]
    )
    timesteps = fresh.model_time(times)
    assert torch.equal(timesteps, timesteps.round())
    assert len(timesteps.unique()) > 50
    assert timesteps.mean() == pytest.approx(500, abs=150)

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDPMScheduler
from torch.nn import functional as F

from flowgrpo.algorithms.trajectory import step_weights
from flowgrpo.flow import Prediction, noised, prediction_from, x0_hat
from flowgrpo.kernels import Form, exact_std, gaussian_log_prob, gradient_scale, transition
from flowgrpo.objectives import (
    better_share,
    clip_range,
    clipped,
    dpo_loss,
    guard_ratio,
    imitation_weights,
    matching_error,
    matching_likelihood,
    nft_loss,
    prediction_error,
    preference_margin,
    sft_loss,
    sft_weight,
    velocity_kl,
)
from flowgrpo.rollout import StoredTransition

ADVANTAGES = torch.tensor([2.0, -1.0, 0.0])


def test_at_ratio_one_the_gradient_is_minus_the_advantage() -> None:
    log_prob = torch.tensor([-1.0, -2.0, -3.0], requires_grad=True)
    terms = clipped((log_prob - log_prob.detach()).exp(), ADVANTAGES, 1e-4)
    assert terms.ratio.eq(1).all()
    assert not terms.is_clipped.any()
    (gradient,) = torch.autograd.grad(terms.loss.sum(), log_prob)
    torch.testing.assert_close(gradient, -ADVANTAGES)


@pytest.mark.parametrize(
    ("advantage", "moved", "stops"),
    [(1.0, 0.1, True), (1.0, -0.1, False), (-1.0, -0.1, True), (-1.0, 0.1, False)],
)
def test_beyond_the_clip_only_the_improving_side_stops(advantage: float, moved: float, stops: bool) -> None:
    log_prob = torch.tensor([moved], requires_grad=True)
    terms = clipped(log_prob.exp(), torch.tensor([advantage]), 0.05)
    assert terms.is_clipped.tolist() == [stops]
    (gradient,) = torch.autograd.grad(terms.loss.sum(), log_prob)
    assert gradient.item() == pytest.approx(0 if stops else -advantage * math.exp(moved))


def test_the_clip_is_counted_in_nats_whatever_the_size() -> None:
    """At the edge of the clip the whole transition's density has moved by the nats asked for."""
    for num_elements in (128, 1024, 65_536):
        assert math.log1p(clip_range(2.0, num_elements)) * num_elements == pytest.approx(2.0, rel=0.02)


def test_kl_is_zero_for_equal_velocities_and_follows_the_policy() -> None:
    velocity = torch.randn(3, 8, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    reference = velocity.detach().clone()
    assert velocity_kl(velocity, reference).eq(0).all()
    (gradient,) = torch.autograd.grad(velocity_kl(velocity, reference + 1).sum(), velocity)
    assert gradient.abs().min() > 0


def test_kl_is_the_true_one_but_for_a_factor_of_the_step() -> None:
    latents, one, other = (
        torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in range(3)
    )
    t, s = 0.7, 0.5
    std = exact_std(t, s, 1.0)
    means = [transition(latents, velocity, t, s, std, noise=latents).mean for velocity in (one, other)]
    normals = [torch.distributions.Normal(mean, std) for mean in means]
    true = torch.distributions.kl_divergence(*normals).flatten(1).mean(1)
    slope = -t * (1 - s) + (1 - t) * math.sqrt(s**2 - std**2)
    torch.testing.assert_close(velocity_kl(one, other) * slope**2 / (2 * std**2), true)


def test_high_noise_weighs_as_one_over_the_root_of_the_snr_and_low_noise_as_one() -> None:
    noising = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    weight = sft_weight(noising.alphas_cumprod)
    alphas = noising.alphas_cumprod
    torch.testing.assert_close(weight[-1], ((1 - alphas[-1]) / alphas[-1]).sqrt())
    assert weight[:200].eq(1).all()
    assert weight.diff().ge(0).all()


def test_sft_is_the_weighted_squared_error_of_each_sample() -> None:
    prediction, target = torch.randn(2, 3, 4, 8, 8)
    weight = torch.tensor([1.0, 0.0, 2.5])
    loss = sft_loss(prediction, target, weight)
    expected = [w * F.mse_loss(p, t) for p, t, w in zip(prediction, target, weight, strict=True)]
    torch.testing.assert_close(loss, torch.stack(expected))


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_guard_s_ratio_is_the_published_one_simplified() -> None:
    """r = exp((log r + mean(delta^2) / (2 std^2)) std), of which the squares cancel."""
    latents, one, other, noise = (normal(seed, 3, 8, 4, 4).float() for seed in range(4))
    t, s = 0.7, 0.5
    std = exact_std(t, s, 1.0)
    old = transition(latents, one, t, s, std, noise=noise)
    new = transition(latents, one + 0.05 * other, t, s, std, next_latents=old.next_latents)
    assert new.log_prob is not None
    assert old.log_prob is not None
    delta = ((new.mean - old.mean) ** 2).flatten(1).mean(1)
    published = ((new.log_prob - old.log_prob + delta / (2 * std**2)) * std).exp()
    guarded = guard_ratio(new.next_latents, new.mean, old.mean, std)
    torch.testing.assert_close(guarded, published, rtol=1e-5, atol=1e-6)
    assert guarded.sub(1).abs().min() > 1e-4


def test_guard_s_ratio_has_no_bias_where_the_plain_one_falls_below_one() -> None:
    mean = torch.zeros(4000, 64)
    noise = normal(0, 4000, 64).float()
    moved, std = mean + 0.3, 0.5
    plain = (gaussian_log_prob(std * noise, moved, std) - gaussian_log_prob(std * noise, mean, std)).mean()
    assert plain < -0.1
    assert guard_ratio(std * noise, moved, mean, std).log().mean().abs() < 0.01


# DiffusionNFT


SHARE = torch.tensor([1.0, 0.5, 0.2, 0.0], dtype=torch.float64)
TIMES = torch.tensor([0.9, 0.6, 0.4, 0.2], dtype=torch.float64)


@pytest.mark.parametrize("beta", [0.1, 0.5, 1.0])
def test_the_gradient_of_nft_is_advantage_weighted_matching_in_a_proximal_well(beta: float) -> None:
    """Finding 9, with the adaptive weight off: const + t^2 (2 (2 r - 1) <d, v_old - v> + beta |d|^2)."""
    target, old, moved = (normal(seed, 4, 3, 2, 2) for seed in range(3))
    velocity = (old + 0.1 * moved).requires_grad_()
    loss = nft_loss(velocity, old, target, TIMES, SHARE, beta=beta, adaptive=False).loss
    d = velocity - old
    inner = (d * (old - target)).flatten(1).mean(1)
    expansion = TIMES**2 * (2 * (2 * SHARE - 1) * inner + beta * (d**2).flatten(1).mean(1))
    one, other = (torch.autograd.grad(x.sum(), velocity, retain_graph=True)[0] for x in (loss, expansion))
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    constant = loss - expansion
    torch.testing.assert_close(constant, TIMES**2 * ((old - target) ** 2).flatten(1).mean(1) / beta)


def test_at_the_old_policy_nft_s_value_says_nothing_of_the_reward_and_its_gradient_does() -> None:
    target, old = normal(0, 4, 3, 2, 2), normal(1, 4, 3, 2, 2)
    velocity = old.clone().requires_grad_()
    losses = [nft_loss(velocity, old, target, 0.5, share, beta=1.0).loss for share in (SHARE, 1 - SHARE)]
    assert torch.equal(*losses)
    one, other = (torch.autograd.grad(loss.sum(), velocity)[0] for loss in losses)
    torch.testing.assert_close(one, -other)
    assert (one[1] == 0).all()
    assert (one[0] != 0).all()


def test_nft_reads_the_clean_images_that_the_implicit_policies_point_at() -> None:
    x0, eps, old, velocity = (normal(seed, 2, 3, 2, 2) for seed in range(4))
    t, beta, share = 0.6, 0.5, torch.tensor([0.8, 0.3], dtype=torch.float64)
    latents = noised(x0, eps, t)
    better = x0_hat(latents, (1 - beta) * old + beta * velocity, t)
    worse = x0_hat(latents, (1 + beta) * old - beta * velocity, t)
    errors = [((clean - x0) ** 2).flatten(1).mean(1) for clean in (better, worse)]
    sizes = [(clean - x0).abs().flatten(1).mean(1) for clean in (better, worse)]
    plain = (share * errors[0] + (1 - share) * errors[1]) / beta
    weighed = (share * errors[0] / sizes[0] + (1 - share) * errors[1] / sizes[1]) / beta
    for adaptive, expected in ((False, plain), (True, weighed)):
        loss = nft_loss(velocity, old, eps - x0, t, share, beta=beta, adaptive=adaptive).loss
        torch.testing.assert_close(loss, expected)


def test_nft_stays_finite_where_an_error_is_nothing() -> None:
    velocity = torch.zeros(1, 2, 2, requires_grad=True)
    loss = nft_loss(velocity, velocity.detach(), torch.zeros(1, 2, 2), 0.5, torch.ones(1), beta=1.0).loss
    (gradient,) = torch.autograd.grad(loss.sum(), velocity)
    assert gradient.isfinite().all()


def test_half_of_a_sample_without_advantage_belongs_to_either_policy() -> None:
    shares = better_share(torch.tensor([-9.0, -5.0, 0.0, 2.5, 5.0, 9.0]), 5.0)
    assert shares.tolist() == [0.0, 0.0, 0.5, 0.75, 1.0, 1.0]


# Advantage-weighted matching


@pytest.mark.parametrize("power", [0.25, 1.0])
def test_awm_s_first_gradient_is_the_advantage_times_that_of_the_matching_loss(power: float) -> None:
    target, velocity = normal(0, 3, 3, 2, 2), normal(1, 3, 3, 2, 2).requires_grad_()
    t = TIMES[:3]
    likelihood = matching_likelihood(velocity, target, t, power)
    terms = clipped((likelihood - likelihood.detach()).exp(), ADVANTAGES.double(), 1.0)
    error = matching_error(velocity, target)
    slope = (t * (error + 1e-10) ** (power - 1)).detach()
    one, other = (
        torch.autograd.grad(x.sum(), velocity, retain_graph=True)[0]
        for x in (terms.loss, ADVANTAGES * slope * error)
    )
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    if power == 1:
        assert torch.equal(slope, t)


def test_awm_s_likelihood_is_nothing_without_error_and_falls_with_it() -> None:
    target = torch.zeros(3, 4)
    velocity = torch.tensor([0.0, 0.1, 2.0])[:, None].expand(3, 4)
    likelihood = matching_likelihood(velocity, target, 0.5, 0.25)
    assert likelihood[0] == 0
    assert likelihood.diff().lt(0).all()


# Preferences


def test_dpo_is_ln_2_where_the_policy_is_its_reference() -> None:
    gain = torch.zeros(3)
    torch.testing.assert_close(dpo_loss(preference_margin(gain, gain, 2000.0)), torch.full((3,), math.log(2)))


def test_to_swap_a_pair_turns_its_margin_round() -> None:
    better, worse = 1e-3 * normal(0, 5), 1e-3 * normal(1, 5)
    margin, swapped = preference_margin(better, worse, 2000.0), preference_margin(worse, better, 2000.0)
    assert torch.equal(margin, -swapped)
    torch.testing.assert_close(dpo_loss(swapped) - dpo_loss(margin), margin)


def test_dpo_pulls_the_better_image_s_error_down_and_the_worse_one_s_up() -> None:
    better, worse = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    grads = torch.autograd.grad(dpo_loss(preference_margin(better, worse, 10.0)).sum(), (better, worse))
    assert [grad.item() for grad in grads] == [2.5, -2.5]


# Regression on images


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample", "flow"])
def test_the_error_of_a_velocity_is_that_of_what_the_network_predicts(prediction: Prediction) -> None:
    x0, eps, velocity = (normal(seed, 4, 3, 2, 2) for seed in range(3))
    latents, target = noised(x0, eps, TIMES), eps - x0
    said, asked = (prediction_from(v, latents, TIMES, prediction) for v in (velocity, target))
    expected = ((said - asked) ** 2).flatten(1).mean(1)
    torch.testing.assert_close(prediction_error(velocity, target, TIMES, prediction), expected)


def test_imitation_weights_are_one_on_average_and_grow_by_e_for_each_temperature() -> None:
    advantages = torch.tensor([[0.0, 0.5, 1.0, 9.0], [0.0, 0.0, 0.0, 0.0]])
    counted = torch.tensor([[True, True, True, False], [True, True, True, True]])
    weights = imitation_weights(advantages, counted, 0.5)
    torch.testing.assert_close(weights.sum(1), torch.tensor([3.0, 4.0]))
    torch.testing.assert_close(weights[0, 1:3] / weights[0, :2], torch.full((2,), math.e))
    assert weights[0, 3] == 0
    assert (weights[1] == 1).all()
    assert imitation_weights(advantages, torch.zeros_like(counted), 0.5).eq(0).all()


# Steps


def a_step(t: float, s: float, form: Form = "marginal") -> StoredTransition:
    std = exact_std(t, s, 1.0)
    nothing = torch.zeros(1, 1)
    return StoredTransition(0, t, s, std, nothing, nothing, torch.zeros(1), form)


@pytest.mark.parametrize("kind", ["one", "tau", "inv_kappa"])
@pytest.mark.parametrize("form", ["marginal", "euler_maruyama"])
def test_weights_of_steps_are_one_on_average(kind: str, form: Form) -> None:
    steps = [a_step(t, s, form) for t, s in ((0.9, 0.8), (0.8, 0.6), (0.6, 0.2))]
    assert sum(step_weights(steps, kind)) / 3 == pytest.approx(1)


def test_steps_weigh_by_their_noise_or_against_their_pull() -> None:
    steps = [a_step(0.9, 0.8), a_step(0.6, 0.2)]
    by_noise, against_pull = step_weights(steps, "tau"), step_weights(steps, "inv_kappa")
    assert by_noise[0] / by_noise[1] == pytest.approx(steps[0].std / steps[1].std)
    pulls = [w * gradient_scale(x.t, x.s, x.std) for w, x in zip(against_pull, steps, strict=True)]
    assert pulls[0] == pytest.approx(pulls[1])
    assert step_weights([], "tau") == []

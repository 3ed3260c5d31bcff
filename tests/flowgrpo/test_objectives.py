from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDPMScheduler
from torch.nn import functional as F

from flowgrpo.kernels import exact_std, transition
from flowgrpo.objectives import clip_range, clipped, sft_loss, sft_weight, velocity_kl

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

"""Losses on final images that are noised anew: NFT, AWM, RWR and SFT.

They need no trajectory, so any sampler may have made the images, long ago or by another policy. Latents of
each image at each of a few noise levels of the sampler's own grid go through the network; the noise follows
from counters. Guidance is not part of the loss: the conditional half alone learns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from flowgrpo import flow, objectives, seeds
from flowgrpo.advantages import Advantages
from flowgrpo.algorithms.base import Method, Piece, Tally, counted_rows
from flowgrpo.flow import Latents
from flowgrpo.rollout import Rollout

_NOISE = 7
"""Sets these counters apart from those of the sampler's noise."""


class Forward(Method):
    """What NFT, AWM, RWR and SFT share: pieces of re-noised latents."""

    def pieces(self, rollouts: Sequence[Rollout], advantages: Advantages) -> Iterator[Piece]:
        """One per noise level of a micro-batch."""
        for rollout, rows, values, counted in counted_rows(rollouts, advantages):
            for level, t in enumerate(self.levels(rollout)):
                yield self.noised(rollout, rows, t, level, values, counted)

    def noised(
        self, rollout: Rollout, rows: slice, t: float, level: int, values: Tensor, counted: Tensor
    ) -> Piece:
        """Some rows of a rollout's final latents, noised to time t."""
        x0 = torch.where(_over(counted, rollout.latents), rollout.latents[rows].float(), 0.0)
        counters = (self.learner.rollouts, level)
        eps = torch.stack([seeds.noise(x0.shape[1:], _NOISE, s, *counters) for s in rollout.seeds[rows]])
        eps = eps.to(x0)
        latents = flow.noised(x0, eps, t).to(self.policy.dtype)
        conditioning = rollout.conditioning.rows(rows)
        return Piece(latents, t, conditioning, 1.0, values, counted, x0=x0, eps=eps)

    def levels(self, rollout: Rollout) -> list[float]:
        """The noise levels of a group: some of the noisiest share of its grid, without repetition where
        there are enough.
        """
        times = rollout.times[:-1]
        candidates = times[: max(1, math.ceil(self.settings.noisiest * len(times)))]
        generator = torch.Generator().manual_seed(
            seeds.derive_seed(_NOISE, rollout.seeds[0], self.learner.rollouts)
        )
        order: list[int] = []
        while len(order) < self.settings.levels:
            order += torch.randperm(len(candidates), generator=generator).tolist()
        return [candidates[index] for index in sorted(order[: self.settings.levels])]


class NFT(Forward):
    """DiffusionNFT: the old policy samples, and its improvement is read off a contrast."""

    def prepare(self, piece: Piece) -> None:
        """The old policy's velocity."""
        self.velocity_of("old", piece)

    def objective(self, piece: Piece, velocity: Latents, tally: Tally) -> Tensor:
        """arXiv 2509.16117, in x0 space."""
        assert piece.x0 is not None
        old = self.velocity_of("old", piece)
        share = 0.5 + 0.5 * (piece.advantages / self.learner.config.advantage_clip).clamp(-1, 1)
        tally.add("drift", objectives.velocity_kl(velocity, old)[piece.counted])
        losses = objectives.nft_loss(
            piece.latents.float(), piece.x0, velocity, old, piece.t, share,
            self.settings.beta, adaptive=self.settings.adaptive,
        )  # fmt: skip
        scaled: Tensor = losses * self.learner.config.advantage_clip
        return scaled

    def after_rollout(self) -> None:
        """The old policy follows, the more slowly the longer the run."""
        decay = min(self.settings.old_rate * self.learner.rollouts, self.settings.old_max)
        self.learner.average(self.learner.copies["old"], decay, warm_up=False)


class AWM(Forward):
    """Advantage-weighted matching: the ratio of forward likelihoods, and a tether to a moving average."""

    def prepare(self, piece: Piece) -> None:
        """The average's velocity, as it is now."""
        piece.memory.pop("average", None)
        if self.settings.ema_kl_weight > 0:
            self.velocity_of("average", piece)

    def objective(self, piece: Piece, velocity: Latents, tally: Tally) -> Tensor:
        """arXiv 2509.25050."""
        target = target_velocity(piece)
        likelihood = objectives.matching_likelihood(velocity, target, piece.t, self.settings.power)
        old = piece.memory.setdefault("likelihood", likelihood.detach())
        advantages = (piece.advantages / self.learner.config.advantage_clip).clamp(-1, 1)
        terms = objectives.clipped((likelihood - old).exp(), advantages, self.settings.ratio_clip)
        tally.add("ratio", terms.ratio[piece.counted])
        tally.add("clip_fraction", terms.is_clipped[piece.counted].float())
        if self.settings.ema_kl_weight == 0:
            return terms.loss
        drift = objectives.velocity_kl(velocity, self.velocity_of("average", piece))
        tally.add("drift", drift[piece.counted])
        loss: Tensor = terms.loss + drift * self.settings.ema_kl_weight
        return loss

    def after_step(self) -> None:
        """The average follows."""
        self.learner.average(self.learner.copies["average"], self.settings.ema_kl_decay)


class RWR(Forward):
    """Reward-weighted regression towards the better images of a group."""

    def objective(self, piece: Piece, velocity: Latents, tally: Tally) -> Tensor:
        """exp(A / temperature) times the model's own training loss (Peters & Schaal 2007)."""
        weights: Tensor = (piece.advantages / self.settings.temperature).clamp(max=3).exp()
        tally.add("weight", weights[piece.counted])
        return weights * native_error(self.policy.prediction, piece, velocity)


class SFT(Forward):
    """The model's own training loss on images that are given (stage 1)."""

    def levels(self, rollout: Rollout) -> list[float]:
        """One level per micro-batch of a dataset, spread as the model was trained."""
        share = seeds.derive_seed(_NOISE, *rollout.seeds[:1], self.learner.rollouts) / 2**63
        return [self.policy.schedule.training_time(share)]

    def objective(self, piece: Piece, velocity: Latents, tally: Tally) -> Tensor:
        """Ho et al. 2020, eq. 14, weighted as `sft_weight` says."""
        del tally
        is_debiased = self.settings.weighting == "debiased" and self.policy.prediction != "flow"
        weight = max(1.0, piece.t / (1 - piece.t)) if is_debiased else 1.0
        return weight * native_error(self.policy.prediction, piece, velocity)


def native_error(prediction: flow.Prediction, piece: Piece, velocity: Latents) -> Tensor:
    """Mean squared error of what the network itself predicts, one number per sample."""
    scale = flow.prediction_scale(piece.t, prediction)
    return scale**2 * objectives.velocity_kl(velocity, target_velocity(piece))


def target_velocity(piece: Piece) -> Latents:
    """eps - x0 of re-noised latents."""
    assert piece.x0 is not None
    assert piece.eps is not None
    return piece.eps - piece.x0


def _over(mask: Tensor, like: Tensor) -> Tensor:
    return mask.view(-1, *[1] * (like.ndim - 1))

"""Losses on final images that are noised anew: NFT, AWM, RWR and SFT.

They need no trajectory, so any sampler may have made the images, long ago or by another policy. Latents of
each image at a few noise levels of the sampler's own grid go through the network, each image with levels of
its own; levels and noise follow from counters. Guidance is not part of the loss: the conditional half alone
learns. A network that takes the scale as a number (FLUX.1-dev) is asked with the one that made the images.
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
from flowgrpo.policies.base import Conditioning
from flowgrpo.rollout import Rollout

_NOISE = 7
"""Sets these counters apart from those of the sampler's noise."""
_LEVELS = 8
"""And these from both."""


class Forward(Method):
    """What NFT, AWM, RWR and SFT share: pieces of re-noised latents."""

    looks_anew = True

    def pieces(self, rollouts: Sequence[Rollout], advantages: Advantages) -> Iterator[Piece]:
        """One per noise level of a micro-batch."""
        for rollout, rows, values, counted in counted_rows(rollouts, self.taught(advantages)):
            # A broken sample's numbers are not finite, and 0 times those would not be 0.
            x0 = rollout.latents[rows].float()
            x0 = torch.where(counted.view(-1, *[1] * (x0.ndim - 1)), x0, 0.0)
            words, keys, scale = rollout.conditioning.rows(rows), rollout.seeds[rows], self.scale_of(rollout)
            for level in range(self.num_levels):
                t = self.times(rollout, keys, level)
                yield self.noised(x0, t, words, scale, keys, level, values, counted)

    @property
    def num_levels(self) -> int:
        """Noise levels of each image and update."""
        return int(self.settings.levels)

    @property
    def noisiest(self) -> float:
        """Share of the grid, from its noisy end, that they are drawn from."""
        return float(self.settings.noisiest)

    def taught(self, advantages: Advantages) -> Advantages:
        """What the loss takes for advantages."""
        return advantages

    def scale_of(self, rollout: Rollout) -> float:
        """The guidance that the network is asked with; 1 computes the conditional half alone."""
        return rollout.guidance_scale if self.policy.has_guidance_input else 1.0

    def noised(
        self,
        x0: Latents,
        t: Tensor,
        conditioning: Conditioning,
        guidance_scale: float,
        keys: Sequence[int],
        level: int,
        values: Tensor,
        counted: Tensor,
    ) -> Piece:
        """Clean latents at times t; equal keys have equal noise."""
        counters = (self.learner.rollouts, self.learner.update, level)
        eps = torch.stack([seeds.noise(x0.shape[1:], _NOISE, key, *counters) for key in keys]).to(x0)
        latents = flow.noised(x0, eps, t).to(self.policy.dtype)
        return Piece(latents, t, conditioning, guidance_scale, values, counted, target=eps - x0)

    def times(self, rollout: Rollout, keys: Sequence[int], level: int) -> Tensor:
        """The noise level of each key's image, float64."""
        times = [self._time(rollout.times, key, level) for key in keys]
        return torch.tensor(times, dtype=torch.float64, device=rollout.latents.device)

    def _time(self, times: Sequence[float], key: int, level: int) -> float:
        """One of the noisiest times of a grid; all of them come up before one comes up again."""
        candidates = times[: max(1, math.ceil(self.noisiest * (len(times) - 1)))]
        counters = (_LEVELS, key, self.learner.rollouts, self.learner.update, level // len(candidates))
        generator = torch.Generator().manual_seed(seeds.derive_seed(*counters))
        order = torch.randperm(len(candidates), generator=generator)
        return candidates[int(order[level % len(candidates)])]

    def native_error(self, piece: Piece, velocity: Latents) -> Tensor:
        """Mean squared error of what the network itself predicts."""
        return objectives.prediction_error(velocity, target_of(piece), piece.t, self.policy.prediction)


class NFT(Forward):
    """DiffusionNFT: the old policy samples, and its improvement is read off a contrast."""

    def prepare(self, piece: Piece) -> None:
        """The old policy's velocity."""
        self.velocity_of("old", piece)

    def objective(self, piece: Piece, velocity: Latents, tally: Tally) -> Tensor:
        """arXiv 2509.16117, times the advantages' clip, as in its code: A grad of the matching error."""
        clip = self.learner.config.advantage_clip
        share = objectives.better_share(piece.advantages, clip)
        old = self.velocity_of("old", piece)
        terms = objectives.nft_loss(
            velocity, old, target_of(piece), piece.t, share,
            beta=self.settings.beta, adaptive=self.settings.adaptive,
        )  # fmt: skip
        tally.add("drift", objectives.velocity_kl(velocity, old)[piece.counted])
        tally.add("positive", terms.positive[piece.counted])
        tally.add("negative", terms.negative[piece.counted])
        return clip * terms.loss

    def after_rollout(self) -> None:
        """The old policy follows, the more slowly the longer the run."""
        decay = min(self.settings.old_rate * self.learner.rollouts, self.settings.old_max)
        self.learner.average(self.learner.copies["old"], decay, warm_up=False)


class AWM(Forward):
    """Advantage-weighted matching: the ratio of forward likelihoods, and a tether to a moving average."""

    looks_anew = False
    """A ratio is of two policies at one noise."""

    def prepare(self, piece: Piece) -> None:
        """The average's velocity, as it is now."""
        self.forget("average", piece)
        if self.settings.ema_kl_weight > 0:
            self.velocity_of("average", piece)

    def objective(self, piece: Piece, velocity: Latents, tally: Tally) -> Tensor:
        """arXiv 2509.25050. The old likelihood is that of the rollout's first update, at the same noise."""
        likelihood = objectives.matching_likelihood(velocity, target_of(piece), piece.t, self.settings.power)
        old = piece.memory.setdefault("likelihood", likelihood.detach())
        # Where the advantage is negative the loss has no floor: advantages are scaled to 1 at most.
        advantages = (piece.advantages / self.learner.config.advantage_clip).clamp(-1, 1)
        terms = objectives.clipped((likelihood - old).exp(), advantages, self.settings.ratio_clip)
        tally.add("ratio", terms.ratio[piece.counted])
        tally.add("clip_fraction", terms.is_clipped[piece.counted])
        if self.settings.ema_kl_weight == 0:
            return terms.loss
        drift = objectives.velocity_kl(velocity, self.velocity_of("average", piece))
        tally.add("drift", drift[piece.counted])
        return terms.loss + float(self.settings.ema_kl_weight) * drift

    def after_step(self) -> None:
        """The average follows."""
        self.learner.average(self.learner.copies["average"], self.settings.ema_kl_decay)


class RWR(Forward):
    """Reward-weighted regression towards the better images of a group."""

    def taught(self, advantages: Advantages) -> Advantages:
        """The weights of a group, 1 on average."""
        temperature = self.settings.temperature
        weights = objectives.imitation_weights(advantages.values, advantages.is_counted, temperature)
        return Advantages(weights, advantages.is_counted, advantages.dead_groups)

    def objective(self, piece: Piece, velocity: Latents, tally: Tally) -> Tensor:
        """The flow-matching loss, weighted; an epsilon error would hardly see what high noise decides."""
        tally.peak("weight", piece.advantages)
        return piece.advantages * objectives.matching_error(velocity, target_of(piece))


class SFT(Forward):
    """The model's own training loss on images that are given (stage 1)."""

    num_levels = 1
    noisiest = 1.0

    def objective(self, piece: Piece, velocity: Latents, tally: Tally) -> Tensor:
        """Ho et al. 2020, eq. 14, weighted as `sft_weight` says; networks that predict a velocity weigh
        noise levels by what they predict.
        """
        del tally
        error = self.native_error(piece, velocity)
        if self.settings.weighting == "uniform" or self.policy.prediction != "epsilon":
            return error
        alpha, _ = flow.vp_alpha_sigma(torch.as_tensor(piece.t))
        return objectives.sft_weight(alpha**2) * error


def target_of(piece: Piece) -> Latents:
    """eps - x0 of re-noised latents."""
    assert piece.target is not None
    return piece.target

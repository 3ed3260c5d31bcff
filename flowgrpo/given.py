"""Images that were given instead of sampled, in the form that an update learns from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flowgrpo import seeds as seeding
from flowgrpo.advantages import Advantages
from flowgrpo.buckets import MicroConditioning
from flowgrpo.flow import Schedule
from flowgrpo.policies.base import Conditioning, Policy, Words
from flowgrpo.rollout import Rollout, micro_batches

_LATENTS = 9
"""Sets these counters apart from others of the same seeds."""
_QUANTILES = 1000
"""Of the times that a model was trained at: one for each of SD's timesteps."""


def given_rollout(
    policy: Policy,
    images: Float[Tensor, "sample 3 height width"],
    captions: Sequence[str],
    seeds: Sequence[int],
    *,
    dropped: Bool[Tensor, " sample"] | None = None,
    sizes: Sequence[MicroConditioning] | None = None,
    micro_batch_size: int = 32,
) -> Rollout:
    """A rollout whose final latents are the VAE's of some images in [0, 1].

    Args:
        seeds: one per image; the draw from the VAE's posterior follows from them.
        dropped: images that are learned without their caption.
        sizes: what SDXL is told of each image's size and cut; whole images of this size by default. Other
            families are not told.
    """
    height, width = images.shape[2:]
    shape = policy.latent_shape(width, height)
    noise = torch.stack([seeding.noise(shape, _LATENTS, seed) for seed in seeds])
    latents = torch.cat(
        [
            policy.encode_images(images[rows], noise[rows])
            for rows in micro_batches(len(seeds), micro_batch_size)
        ]
    )
    conditioning = policy.encode(captions, guided=True, width=width, height=height)
    words = conditioning.positive
    if dropped is not None:
        words = _without(words, conditioning.unconditional(), dropped.to(policy.device))
    if sizes is not None and "time_ids" in words:
        told = torch.tensor([one.time_ids for one in sizes])
        words = words | {"time_ids": told.to(words["time_ids"])}
    return Rollout(
        prompts=tuple(captions),
        seeds=tuple(seeds),
        images=images,
        latents=latents,
        transitions=(),
        conditioning=Conditioning(words, conditioning.negative),
        guidance_scale=1.0,
        micro_batch_size=micro_batch_size,
        times=training_times(policy.schedule),
    )


@lru_cache(maxsize=8)
def training_times(schedule: Schedule) -> tuple[float, ...]:
    """The times that a model was trained at, equally likely, from noise to 0: the grid of given images."""
    shares = ((index + 0.5) / _QUANTILES for index in reversed(range(_QUANTILES)))
    return (*(schedule.training_time(share) for share in shares), 0.0)


def _without(words: Words, unconditional: Words, dropped: Tensor) -> Words:
    return {
        name: torch.where(dropped.view(-1, *[1] * (tensor.ndim - 1)), unconditional[name], tensor)
        for name, tensor in words.items()
    }


def preferred(num_pairs: int) -> Advantages:
    """The advantages of pairs that people have judged, rollouts of two rows with the better image first."""
    values = torch.tensor([1.0, -1.0]).repeat(num_pairs, 1)
    return Advantages(
        values, torch.ones_like(values, dtype=torch.bool), torch.zeros(num_pairs, dtype=torch.bool)
    )


def all_count(num_samples: int) -> Advantages:
    """What SFT takes for advantages: every image is as good as another."""
    return Advantages(
        torch.ones(1, num_samples),
        torch.ones(1, num_samples, dtype=torch.bool),
        torch.zeros(1, dtype=torch.bool),
    )

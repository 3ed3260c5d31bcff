"""Noise from counters, never from generator state: a run that stops and goes on draws what it would have
drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

MAX_SEED = 2**32 - 1


def derive_seed(*counters: int) -> int:
    """A 63-bit seed from any number of integers; different counters give unrelated seeds."""
    digest = hashlib.sha256(",".join(str(int(counter)) for counter in counters).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def noise(shape: Sequence[int], *counters: int) -> Tensor:
    """Unit Gaussian noise, float32 on the CPU, that follows from `counters` alone."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(derive_seed(*counters)))


def initial_latents(seed: int, shape: Sequence[int]) -> Tensor:
    """Unit Gaussian noise of one image: what diffusers draws from a CPU generator with this seed."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))


def group_seeds(run_seed: int, update: int, group: int, group_size: int) -> list[int]:
    """The 32-bit image seeds of one group of a run; small enough to be typed in again by a person."""
    return [derive_seed(run_seed, update, group, member) & MAX_SEED for member in range(group_size)]

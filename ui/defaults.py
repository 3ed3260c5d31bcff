"""The prompts that a first run learns from, made of the starter's own words."""

from __future__ import annotations

import random
from functools import cache

from flowgrpo.starter.vocabulary import SLOTS, SUBJECT

TRAIN, HELD_OUT = 24, 8
_SEED = 2505
"""Of the draw; a fixed list, so that two runs can be compared."""


@cache
def starter_prompts() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(training prompts, held-out prompts): portraits with one value per slot, optional slots half of the
    time."""
    rng = random.Random(_SEED)
    prompts: dict[str, None] = {}
    while len(prompts) < TRAIN + HELD_OUT:
        tags = [rng.choice(slot.values) for slot in SLOTS if slot.absent is None or rng.random() < 0.5]
        prompts[", ".join([SUBJECT, *tags])] = None
    return tuple(prompts)[:TRAIN], tuple(prompts)[TRAIN:]

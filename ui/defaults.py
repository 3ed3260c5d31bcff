"""The prompts that a first visit begins with, made of the starter's own words."""

from __future__ import annotations

import random
from functools import cache

from flowgrpo.starter.vocabulary import SLOTS, SUBJECT, open_prompts
from storage.engine import Database
from storage.prompts import list_prompt_sets, save_prompt_set

TRAIN, HELD_OUT = 24, 8
OPEN = 24
"""Prompts that leave most to taste, and as many held out."""
OPEN_SET, EXACT_SET = "portraits, open", "portraits, exact"
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


@cache
def taste_prompts() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(training prompts, held-out prompts): portraits that leave most attributes to taste."""
    found = open_prompts(2 * OPEN, random.Random(_SEED))
    return tuple(found[:OPEN]), tuple(found[OPEN:])


def keep_first_sets(db: Database) -> None:
    """Gives a studio that has no prompt sets those of the starter."""
    if not list_prompt_sets(db):
        save_prompt_set(db, EXACT_SET, *starter_prompts())
        save_prompt_set(db, OPEN_SET, *taste_prompts())

"""Which images a blind test shows: two of one prompt and seed, by two checkpoints, drawn before it starts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.lookup import prompt_hash, required
from storage.models import Checkpoint, Image, ImageGroup
from storage.models_judging import BlindPair
from storage.types import canonical_json

MAX_CHECKPOINTS = 8
MAX_PAIRS = 10_000
_KINDS = ("studio", "compare", "demo", "evaluation")
"""Kinds of groups whose images follow from prompt, checkpoint, config and seeds alone."""


class Cell(NamedTuple):
    """One image that a test needs."""

    checkpoint_id: str
    prompt: str
    seed: int


def check(checkpoint_ids: Sequence[str], prompts: Sequence[str], seeds: Sequence[int]) -> None:
    """Raises ValueError with a sentence for what is no test."""
    if not 2 <= len(checkpoint_ids) <= MAX_CHECKPOINTS or len(set(checkpoint_ids)) != len(checkpoint_ids):
        raise ValueError(
            f"expected 2 to {MAX_CHECKPOINTS} different checkpoints, got {len(checkpoint_ids)}: choose which "
            "ones to compare"
        )
    if not prompts or not seeds or len(set(prompts)) != len(prompts) or len(set(seeds)) != len(seeds):
        raise ValueError("expected at least one prompt and one seed, each named once: correct the lists")
    pairs = len(prompts) * len(seeds) * len(checkpoint_ids) * (len(checkpoint_ids) - 1) // 2
    if pairs > MAX_PAIRS:
        raise ValueError(
            f"this test would have {pairs} pairs, and at most {MAX_PAIRS} are kept: leave some out"
        )


def images_of(
    session: Session,
    checkpoint_ids: Sequence[str],
    prompts: Sequence[str],
    seeds: Sequence[int],
    config: dict[str, Any],
) -> dict[Cell, str]:
    """The newest image of each cell, made under exactly this config.

    Raises:
        LookupError: an unknown checkpoint. ValueError: some images are not drawn yet.
    """
    for checkpoint_id in checkpoint_ids:
        required(session, Checkpoint, checkpoint_id, "checkpoint")
    wanted = canonical_json(config)
    where = (
        ImageGroup.checkpoint_id.in_(checkpoint_ids),
        ImageGroup.prompt_hash.in_({prompt_hash(prompt) for prompt in prompts}),
        ImageGroup.kind.in_(_KINDS),
    )
    groups = {
        group.id: group
        for group in session.scalars(select(ImageGroup).where(*where).order_by(ImageGroup.seq))
        if canonical_json(group.config) == wanted
    }
    images = (
        select(Image).join(ImageGroup, ImageGroup.id == Image.group_id).where(*where, Image.seed.in_(seeds))
    )
    found = {}
    for image in session.scalars(images.order_by(ImageGroup.seq)):
        group = groups.get(image.group_id)
        if group is not None:
            found[Cell(group.checkpoint_id, group.prompt, image.seed)] = image.id
    cells = [Cell(c, p, s) for c in checkpoint_ids for p in prompts for s in seeds]
    missing = sum(cell not in found for cell in cells)
    if missing:
        raise ValueError(
            f"{missing} of the {len(cells)} images are not drawn yet: generate them in Compare, with these "
            "prompts, seeds and settings, then start the test"
        )
    return {cell: found[cell] for cell in cells}


def pairs(
    images: dict[Cell, str],
    checkpoint_ids: Sequence[str],
    prompts: Sequence[str],
    seeds: Sequence[int],
    key: str,
) -> list[tuple[str, str]]:
    """Image ids of each pair. In the order of a hash, so that a test which is broken off is a fair sample."""
    made = [
        (images[Cell(one, prompt, seed)], images[Cell(other, prompt, seed)])
        for seed in seeds
        for prompt in prompts
        for one, other in combinations(checkpoint_ids, 2)
    ]
    return sorted(made, key=lambda pair: lot(key, *pair))


def pictures_of(session: Session, test_id: str) -> dict[tuple[str, str], str]:
    """(checkpoint id, prompt) to an image that a test showed, of the lowest seed; for who may know it."""
    sides = select(BlindPair.first_image_id).where(BlindPair.test_id == test_id)
    others = select(BlindPair.second_image_id).where(BlindPair.test_id == test_id)
    rows = (
        select(ImageGroup.checkpoint_id, ImageGroup.prompt, Image.id)
        .join(ImageGroup, ImageGroup.id == Image.group_id)
        .where(Image.id.in_(sides.union(others)))
        .order_by(Image.seed.desc())
    )
    return {(checkpoint, prompt): image for checkpoint, prompt, image in session.execute(rows)}


def lot(*parts: str) -> bytes:
    """Chance that follows from its parts, so that it need not be kept."""
    return hashlib.sha256("/".join(parts).encode()).digest()

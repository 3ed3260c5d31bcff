"""Samples of a run at fixed prompts and seeds: a slider through its updates, and all of them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from storage import groups
from storage.engine import Database
from storage.groups import GroupView
from storage.models import GroupKind, Image
from ui.components import render
from ui.media import thumb_url

_SAMPLES: tuple[GroupKind, ...] = ("sample",)
_MANY = 2000
"""Groups that are looked back on; a run of more shows its newest."""
COLUMNS, STEPS = 10, 60
"""Updates side by side, and on the slider."""
MAX_IMAGES = 60
"""In one table; of more prompts the first are shown."""


@dataclass(frozen=True)
class Sample:
    """The sample grid of one update: images with their prompts."""

    update: int
    images: Sequence[tuple[Image, str]]


@dataclass(frozen=True)
class Place:
    """One prompt and seed through time.

    Attributes:
        urls: an address an update; where an update lacks the image, that of the update before.
    """

    prompt: str
    seed: int
    width: int
    height: int
    urls: Sequence[str]


def samples_html(db: Database, run_id: str) -> str:
    """The section of a run; empty before its first sample."""
    found = samples_of(db, run_id)
    if not found:
        return ""
    steps, columns = thinned(found, STEPS), thinned(found, COLUMNS)
    most = max(1, MAX_IMAGES // len(columns))
    shown = [Sample(sample.update, sample.images[:most]) for sample in columns]
    return render(
        "samples.html",
        run=run_id,
        updates=[sample.update for sample in steps],
        places=places_of(steps),
        columns=shown,
        thumb=thumb_url,
    )


def samples_of(db: Database, run_id: str) -> list[Sample]:
    """The sample grids of a run by update, oldest first."""
    views = groups.recent_groups(db, kinds=_SAMPLES, limit=_MANY, run_id=run_id)
    by_update: dict[int, list[GroupView]] = {}
    for view in reversed(views):
        if view.group.update is not None and view.images:
            by_update.setdefault(view.group.update, []).append(view)
    return [
        Sample(update, [(image.image, view.group.prompt) for view in found for image in view.images])
        for update, found in sorted(by_update.items())
    ]


def thinned(samples: Sequence[Sample], most: int = COLUMNS) -> list[Sample]:
    """First and last always, the others evenly."""
    if len(samples) <= most:
        return list(samples)
    step = (len(samples) - 1) / (most - 1)
    return [samples[round(index * step)] for index in range(most)]


def places_of(steps: Sequence[Sample]) -> list[Place]:
    """What the slider moves through: every prompt and seed that the newest grid has."""
    drawn = [{(prompt, image.seed): image for image, prompt in sample.images} for sample in steps]
    found = []
    for key, image in drawn[-1].items():
        first = next(grid[key] for grid in drawn if key in grid)
        urls: list[str] = []
        for grid in drawn:
            known = grid.get(key)
            urls.append(thumb_url(known.id) if known else (urls[-1] if urls else thumb_url(first.id)))
        found.append(Place(key[0], key[1], image.width, image.height, urls))
    return found

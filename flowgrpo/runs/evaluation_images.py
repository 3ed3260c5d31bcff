"""The images of an evaluation: found where they exist, else drawn in large batches across prompts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from statistics import median

import torch
from jaxtyping import UInt8
from torch import Tensor

from flowgrpo.config import SamplingConfig
from flowgrpo.failpoints import failpoint
from flowgrpo.policies import Policy
from flowgrpo.rewards.cache import image_hash
from flowgrpo.rollout import Progress, Rollout, denoise
from flowgrpo.runs.generation import NO_MEMORY, InterruptedDrawingError, refuse_broken
from flowgrpo.runs.jobs import Bench
from flowgrpo.runs.pictures import png_bytes, read_png
from storage import blobs
from storage.evaluations import DrawnGroup, Found, found_images, keep_drawn
from storage.models import Checkpoint
from storage.types import utc_now

ROWS = 32
"""Rows of one network call; guidance takes two an image. More gain nothing on a CPU, and people who wait at
the screen wait for the whole batch."""
_PIXELS = ROWS * 256**2
"""Bounds a batch of large images; where even that is too much for a device, batches are halved."""
Group = tuple[str, list[int]]
"""A prompt and the seeds that it lacks."""


@dataclass(frozen=True)
class Entry:
    """A row of the table: a checkpoint, and how it is sampled."""

    checkpoint: Checkpoint
    config: SamplingConfig

    @property
    def name(self) -> str:
        return f"{self.checkpoint.name}, {self.config.num_steps} steps"


@dataclass(frozen=True)
class Pictures:
    """The images of an entry, prompt by prompt, seed by seed; read when they are needed.

    Attributes:
        paths: Of their blobs.
        seconds: What drawing one took, the median of those that evaluations drew; None where none did.
    """

    paths: Sequence[Path]
    seconds: float | None

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def hashes(self) -> list[str]:
        """The hash of each one's pixels: files of one picture may differ in what they say of it."""
        return [image_hash(read_png(path)) for path in self.paths]

    def stack(self, indices: Sequence[int]) -> UInt8[Tensor, "sample 3 height width"]:
        """Some of them."""
        return torch.stack([read_png(self.paths[index]) for index in indices])


class Drawer:
    """Draws what the entries of one evaluation lack.

    Attributes:
        done, total: Images; those that are found count as done.
    """

    def __init__(self, bench: Bench, prompts: Sequence[str], seeds: Sequence[int], num_entries: int) -> None:
        self.bench, self.prompts, self.seeds = bench, prompts, seeds
        self.done, self.total = 0, num_entries * len(prompts) * len(seeds)
        self.halvings = 0

    def pictures(self, entry: Entry) -> Pictures:
        """All images of an entry.

        Raises:
            ValueError, LookupError: the checkpoint cannot draw; the sentence says why.
        """
        self.bench.tick(f"looking for images by {entry.name}", self.done, self.total)
        found, before = self._found(entry), self.done
        missing = [(p, [s for s in self.seeds if (p, s) not in found]) for p in self.prompts]
        self.done += sum((prompt, seed) in found for prompt in self.prompts for seed in self.seeds)
        self._draw(entry, [group for group in missing if group[1]])
        found = self._found(entry)
        self.done = before + len(self.prompts) * len(self.seeds)
        wanted = [found[prompt, seed] for prompt in self.prompts for seed in self.seeds]
        seconds = [one.seconds for one in wanted if one.seconds is not None]
        home = self.bench.db.home
        paths = [blobs.path_of(home, one.sha256) for one in wanted]
        return Pictures(paths, median(seconds) if seconds else None)

    def _found(self, entry: Entry) -> dict[tuple[str, int], Found]:
        return found_images(self.bench.db, entry.checkpoint.id, self.prompts, entry.config.model_dump())

    def _draw(self, entry: Entry, missing: list[Group]) -> None:
        while missing:
            size = self._batch_size(entry.config)
            batch = _first(missing, size)
            self.bench.tick(f"drawing {entry.name}", self.done, self.total)
            try:
                began = time.monotonic()
                with self.bench.turn():
                    rollout = self._sample(entry, batch, size)
                seconds = time.monotonic() - began
            except torch.OutOfMemoryError as error:
                if size == 1:
                    raise ValueError(NO_MEMORY) from error
                self.halvings += 1
                continue
            self._keep(entry, batch, rollout, seconds)
            failpoint("evaluation.drawn")
            missing = missing[len(batch) :]
            self.done += len(rollout.seeds)

    def _batch_size(self, config: SamplingConfig) -> int:
        rows = ROWS // (2 if config.guidance_scale > 1 else 1)
        return max(1, min(rows, _PIXELS // (config.width * config.height)) >> self.halvings)

    def _sample(self, entry: Entry, batch: list[Group], size: int) -> Rollout:
        policy: Policy = self.bench.painter.shelf.get(entry.checkpoint)
        texts = [prompt for prompt, seeds in batch for _ in seeds]
        seeds = [seed for _, some in batch for seed in some]
        steps = denoise(policy, texts, seeds=seeds, micro_batch_size=size, **entry.config.model_dump())
        return _finished(steps, self.bench.is_ending, entry.checkpoint.name)

    def _keep(self, entry: Entry, batch: list[Group], rollout: Rollout, seconds: float) -> None:
        """Files first, rows second; each group is said to have taken its share of the batch's time."""
        images, home, ended = iter(rollout.images_uint8.cpu()), self.bench.db.home, utc_now()
        each = timedelta(seconds=seconds / len(rollout.seeds))
        drawn = []
        for prompt, seeds in batch:
            stored = {}
            for seed in seeds:
                image = next(images)
                png = png_bytes(
                    image, prompt=prompt, seed=seed, config=entry.config, model=entry.checkpoint.name
                )
                stored[seed] = (blobs.put_png(home, png), image.shape[2], image.shape[1])
            drawn.append(DrawnGroup(prompt, stored, ended - each * len(seeds), ended))
        keep_drawn(
            self.bench.db,
            drawn,
            checkpoint_id=entry.checkpoint.id,
            config=entry.config.model_dump(),
            created_by=self.bench.job.created_by,
        )


def _first(groups: Sequence[Group], size: int) -> list[Group]:
    """As many of the groups as have `size` images together, and one at least."""
    chosen, images = 0, 0
    while chosen < len(groups) and (chosen == 0 or images + len(groups[chosen][1]) <= size):
        images += len(groups[chosen][1])
        chosen += 1
    return list(groups[:chosen])


def _finished(steps: Iterator[Progress], is_ending: Callable[[], bool], model: str) -> Rollout:
    for step in steps:
        if step.rollout is not None:
            refuse_broken(step.rollout, model)
            return step.rollout
        if is_ending():
            raise InterruptedDrawingError
    raise AssertionError("a rollout ends with its images")

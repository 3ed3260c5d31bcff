"""Examples -> batches of one shape each, in an order that follows from counters.

An epoch shows every example as often as its repeats say. Which batch an update learns from, and with which
captions, follows from the run's seed and the update's number alone: a run that stops and goes on sees what it
would have seen, and no earlier update need be done again to find out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from random import Random

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from flowgrpo import pixels
from flowgrpo.buckets import Bucket, MicroConditioning, assign, crop_box, micro_conditioning
from flowgrpo.imagefolder import Example
from flowgrpo.seeds import derive_seed
from flowgrpo.tags import TagOptions, caption_for

_ORDER, _SHOWING, _CAPTION, _FLIP = 12, 13, 14, 15
"""Set these counters apart from one another and from those of noise."""


@dataclass(frozen=True)
class Showing:
    """One example, shown once."""

    example: Example
    seed: int
    """63 bits that no other showing of the run has; caption and flip follow from it, and noise may."""


@dataclass(frozen=True)
class Batch:
    """Examples that are cut to one shape and learned from together."""

    bucket: Bucket
    showings: tuple[Showing, ...]

    def captions(self, options: TagOptions) -> list[str]:
        """What each image is learned with, this time."""
        return [
            caption_for(one.example.caption, options, Random(derive_seed(_CAPTION, one.seed)))
            for one in self.showings
        ]

    def images(self, *, flip: bool = False) -> Float[Tensor, "sample 3 height width"]:
        """The images in [0, 1]; with `flip`, half of them mirrored, by chance.

        Raises ValueError for an image that cannot be read any more.
        """
        mirrored = [flip and derive_seed(_FLIP, one.seed) % 2 == 0 for one in self.showings]
        pairs = zip(self.showings, mirrored, strict=True)
        return torch.stack(
            [load_image(one.example, self.bucket, flip=is_mirrored) for one, is_mirrored in pairs]
        )

    def micro_conditioning(self) -> list[MicroConditioning]:
        """What SDXL is told of each image. A mirrored one is cut in its middle too, so it is the same."""
        sizes = [(one.example.width, one.example.height) for one in self.showings]
        return [micro_conditioning(width, height, self.bucket) for width, height in sizes]


@dataclass(frozen=True)
class BatchPlan:
    """Which batch each update of a run learns from.

    Every epoch deals each bucket's showings anew into batches, of which a bucket's last may be smaller, and
    puts all batches into a new order. All epochs have the same number of batches.
    """

    examples: Sequence[Example]
    buckets: Sequence[Bucket]
    batch_size: int
    """Showings of a full batch."""
    seed: int

    def __post_init__(self) -> None:
        if not self.examples or not self.buckets or self.batch_size < 1:
            raise ValueError(
                "expected at least one example, one bucket and one image a batch, got "
                f"{len(self.examples)}, {len(self.buckets)} and {self.batch_size}"
            )

    @property
    def batches_per_epoch(self) -> int:
        """Updates that show every example as often as its repeats say."""
        return len(self._slots)

    def batch_at(self, update: int) -> Batch:
        """The batch of an update, counted from 0."""
        if update < 0:
            raise ValueError(f"updates are counted from 0, got {update}")
        epoch, place = divmod(update, self.batches_per_epoch)
        bucket, start = self._slots[_order(len(self._slots), self.seed, epoch)[place]]
        entries = self._entries[bucket]
        order = _order(len(entries), self.seed, epoch, *bucket)[start : start + self.batch_size]
        return Batch(bucket, tuple(self._showing(epoch, *entries[entry]) for entry in order))

    def _showing(self, epoch: int, example: int, repeat: int) -> Showing:
        seed = derive_seed(_SHOWING, self.seed, epoch, example, repeat)
        return Showing(self.examples[example], seed)

    @cached_property
    def _entries(self) -> dict[Bucket, list[tuple[int, int]]]:
        """(example, repeat) of every showing of an epoch, by bucket."""
        members = assign(((one.width, one.height) for one in self.examples), self.buckets)
        return {
            bucket: [(index, repeat) for index in indices for repeat in range(self.examples[index].repeats)]
            for bucket, indices in members.items()
        }

    @cached_property
    def _slots(self) -> list[tuple[Bucket, int]]:
        """(bucket, its first entry) of every batch of an epoch, not yet in order."""
        return [
            (bucket, start)
            for bucket, entries in self._entries.items()
            for start in range(0, len(entries), self.batch_size)
        ]


@lru_cache(maxsize=64)
def _order(count: int, *counters: int) -> tuple[int, ...]:
    """0 .. count - 1 in an order that follows from the counters; kept, since a whole epoch asks for it."""
    generator = torch.Generator().manual_seed(derive_seed(_ORDER, *counters))
    return tuple(torch.randperm(count, generator=generator).tolist())


def load_image(example: Example, bucket: Bucket, *, flip: bool = False) -> Float[Tensor, "3 height width"]:
    """The example in [0, 1], float32: upright, on white, its middle resized by Lanczos to fill the bucket.

    Raises ValueError for an image that cannot be read any more.
    """
    image = pixels.decode(example.path)
    cut = image.resize(bucket, Image.Resampling.LANCZOS, box=crop_box(image.width, image.height, bucket))
    upright = ImageOps.mirror(cut) if flip else cut
    return torch.from_numpy(np.array(upright)).permute(2, 0, 1).contiguous().float() / 255

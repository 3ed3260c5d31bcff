"""The rendered data sets of the build: images, attributes and captions on disk, made once."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from flowgrpo.starter import vocabulary as v
from flowgrpo.starter.portraits import IMAGE_SIZE, is_held_out, render, sample_attributes

_SEED_STRIDE = 1_000_000_000  # keeps the free attributes of the splits apart


@dataclass(frozen=True)
class Portraits:
    """A rendered split.

    Attributes:
        images: RGB, 0 to 255, `(sample, 3, height, width)`.
        attributes: slot name -> label, one dict per sample.
        labels: index into `Slot.labels`, one column per slot.
    """

    images: UInt8[Tensor, "sample 3 height width"]
    attributes: list[v.Attributes]
    labels: Int64[Tensor, "sample slot"]

    def __len__(self) -> int:
        return len(self.attributes)

    def floats(self, index: Tensor | slice) -> Tensor:
        """The chosen images in [-1, 1], channels_last."""
        return self.images[index].float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)


def labels_of(attributes: list[v.Attributes]) -> Int64[Tensor, "sample slot"]:
    """Label indices; -1 where a slot is free."""
    rows = [[s.labels.index(a[s.name]) if s.name in a else -1 for s in v.SLOTS] for a in attributes]
    return torch.tensor(rows, dtype=torch.int64).reshape(len(rows), len(v.SLOTS))


def _draw(job: tuple[v.Attributes, int]) -> np.ndarray:
    return render(*job)


def seed_of(split: str, index: int) -> int:
    """What chooses the free attributes of one portrait of a split."""
    return int.from_bytes(split.encode()[:2]) * _SEED_STRIDE + index


def plan(split: str, count: int) -> list[v.Attributes]:
    """The attributes of a split: `train` has no held-out combination, `held_out` nothing else."""
    rng = random.Random(f"starter/{split}")

    def wanted() -> Iterator[v.Attributes]:
        while True:
            attributes = sample_attributes(rng)
            if is_held_out(attributes) == (split == "held_out"):
                yield attributes

    source = wanted()
    return [next(source) for _ in range(count)]


def portraits(folder: Path, split: str, count: int) -> Portraits:
    """Loads a split, rendering it first where it is not on disk (14 ms an image and core)."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{split}-{count}.npy"
    attributes = plan(split, count)
    if not path.exists():
        jobs = [(a, seed_of(split, i)) for i, a in enumerate(attributes)]
        with ProcessPoolExecutor() as pool:
            images = np.stack(list(pool.map(_draw, jobs, chunksize=64)))
        partial = path.with_suffix(".partial.npy")
        np.save(partial, images)
        partial.rename(path)
    images = np.load(path)
    assert images.shape == (count, IMAGE_SIZE, IMAGE_SIZE, 3), images.shape
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    (folder / "words.json").write_text(json.dumps(sorted(v.KNOWN_WORDS)))
    return Portraits(pixels, attributes, labels_of(attributes))

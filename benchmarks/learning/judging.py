"""The instruments of the race: held-out prompts at fixed seeds, a judge that rewarded nobody."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.learning.tasks import FAST, Sampler, Task
from flowgrpo.config import DEFAULT_WEIGHTS
from flowgrpo.evaluation import Evaluator, Measurements, kernel_distance
from flowgrpo.frechet import frechet_distance
from flowgrpo.metrics.intervals import Column, Figure, draws, mean_of
from flowgrpo.paired import paired
from flowgrpo.policies import Policy
from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.stack import load_stack
from flowgrpo.rollout import sample
from flowgrpo.starter.dataset import Portraits, portraits
from flowgrpo.starter.portraits import caption

_SEEDS_FROM = 20_000
_AT_ONCE = 64


@dataclass(frozen=True)
class Judging:
    """What is drawn and measured.

    Attributes:
        weights: The starter's.
        folder: Renders and features are kept here.
        num_prompts: Of the final measurement; they are paired with the renders of the same attributes.
        num_references: Renders that KID and FID compare with.
        num_seeds: Images per prompt of the final measurement.
        glance_prompts: Prompts of the measurements on the way, one image each.
        task: Its samplers are drawn with.
        first_prompt: Prompts and seeds before this one are left for other measurements.
    """

    weights: Path
    folder: Path
    num_prompts: int = 256
    num_references: int = 1024
    num_seeds: int = 2
    glance_prompts: int = 128
    task: Task = FAST
    first_prompt: int = 0

    @cached_property
    def renders(self) -> Portraits:
        """Portraits of held-out combinations of attributes."""
        return portraits(self.folder / "renders", "held_out", self.num_references)

    @cached_property
    def training_renders(self) -> Portraits:
        """What continued SFT learns from: portraits of combinations that are not held out."""
        return portraits(self.folder / "renders", "train", 4096)

    @cached_property
    def prompts(self) -> list[str]:
        """Their captions."""
        return [caption(attributes) for attributes in self.renders.attributes[self._rows]]

    @property
    def _rows(self) -> slice:
        return slice(self.first_prompt, self.first_prompt + self.num_prompts)

    def _draw(
        self, policy: Policy, prompts: list[str], num_seeds: int, sampler: Sampler
    ) -> UInt8[Tensor, "prompt seed 3 height width"]:
        """Images of the prompts at fixed seeds."""
        num_steps, guidance = sampler
        texts = [prompt for prompt in prompts for _ in range(num_seeds)]
        first_seed = _SEEDS_FROM + self.first_prompt * num_seeds
        drawn = sample(
            policy, texts, seeds=range(first_seed, first_seed + len(texts)), num_steps=num_steps,
            guidance_scale=guidance, width=64, height=64, micro_batch_size=_AT_ONCE,
        )  # fmt: skip
        images: Tensor = drawn.images_uint8.unflatten(0, (len(prompts), num_seeds))
        return images

    @cached_property
    def evaluator(self) -> Evaluator:
        """Judge, CLIP, quality and features."""
        return Evaluator(self.weights, self.renders.images)

    def glance(self, policy: Policy) -> dict[str, float]:
        """Judge, KID and the weighted training rewards, on few images of the task's sampler."""
        prompts = self.prompts[: self.glance_prompts]
        images = self._draw(policy, prompts, 1, self.task.sampler)
        found = self.evaluator.measure(images, prompts)
        kid = kernel_distance(found.features.flatten(0, 1), self.evaluator.reference).value
        return {"judge": _mean(found, "judge"), "kid": kid, "reward": self.reward(images, prompts)}

    def reward(self, images: UInt8[Tensor, "prompt seed 3 height width"], prompts: list[str]) -> float:
        """The weighted sum of what the runs are rewarded by."""
        texts = [prompt for prompt in prompts for _ in range(images.shape[1])]
        batch = ScoreBatch(images.flatten(0, 1), texts, list(range(len(texts))))
        scores = load_stack(DEFAULT_WEIGHTS, self.weights).score(batch)
        return sum(weight * float(scores[name].values.mean()) for name, weight in DEFAULT_WEIGHTS.items())

    def whole(
        self, policy: Policy, name: str, seed: int, samplers: Iterable[str]
    ) -> dict[str, dict[str, float]]:
        """All columns in some of the task's samplers; what intervals are made of goes to disk."""
        return {sampler: self.measure(policy, name, seed, sampler) for sampler in samplers}

    def measure(self, policy: Policy, name: str, seed: int, sampler: str) -> dict[str, float]:
        """All columns in one of them."""
        images = self._draw(policy, self.prompts, self.num_seeds, self.task.samplers[sampler])
        found = self.evaluator.measure(images, self.prompts)
        self._keep(found, self.folder / f"{name}-{seed}-{sampler}.safetensors")
        flat = found.features.flatten(0, 1)
        references = self.renders.images[self._rows].repeat_interleave(self.num_seeds, dim=0)
        pairs = paired(images.flatten(0, 1), references)
        return {
            **{metric: _mean(found, metric) for metric in found.columns},
            **_with_ends("kid", kernel_distance(flat, self.evaluator.reference)),
            **_with_ends("judge", _over_prompts(found.columns["judge"])),
            "fid": frechet_distance(flat, self.evaluator.reference),
            "reward": self.reward(images, self.prompts),
            **{metric: float(values.mean()) for metric, values in pairs.items()},
        }

    def _keep(self, found: Measurements, path: Path) -> None:
        columns = {name: torch.from_numpy(column.copy()) for name, column in found.columns.items()}
        save_file(columns | {"features": found.features.half().contiguous()}, path)


def _over_prompts(column: Column) -> Figure:
    """A column's mean with its 95% interval over prompts, bootstrapped."""
    return mean_of(column, draws(len(column))).figure()


def _with_ends(name: str, figure: Figure) -> dict[str, float]:
    return {name: figure.value, f"{name}/low": figure.low, f"{name}/high": figure.high}


def _mean(found: Measurements, name: str) -> float:
    return float(np.nanmean(found.columns[name]))

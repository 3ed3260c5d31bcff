"""Base against tuned on the same prompts and seeds: what changed, by how much, and how sure that is.

Every difference is paired, with an interval over prompts (`flowgrpo/metrics/intervals.py`). Nothing here has
rewarded a run, except where a metric's name says so. `flowgrpo/metrics/table.py` has more than two models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from flowgrpo.metrics.intervals import Column, Drawn, Figure, draws, mean_of
from flowgrpo.metrics.kernels import SquaredMMD, cubic
from flowgrpo.metrics.table import by_prompt
from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.clip import ClipReward
from flowgrpo.rewards.encoders import taps
from flowgrpo.rewards.perceptual import embed, pairwise
from flowgrpo.rewards.quality import QualityReward
from flowgrpo.rewards.verifier import AttributeVerifier
from flowgrpo.starter.features import FEATURES, statistics, taps_of
from flowgrpo.starter.vocabulary import SLOTS, parse_prompt

KID: Final = f"kid@{FEATURES}"
"""Kernel inception distance (arXiv 1801.01401) on our features: comparable with itself alone. Lower is
better."""


@dataclass(frozen=True)
class Difference:
    """One metric of both models.

    Attributes:
        change: Tuned minus base, paired by prompt and seed.
        num_prompts, num_images: Behind each model's figure.
        extractor: What measured, with its version.
    """

    metric: str
    base: Figure
    tuned: Figure
    change: Figure
    num_prompts: int
    num_images: int
    extractor: str

    def to_json(self) -> dict[str, Any]:
        """As a report keeps it, base and tuned first; None where no prompt was asked for the metric."""
        numbers = {"base": self.base.value, "tuned": self.tuned.value, "difference": self.change.value}
        interval = {"low": self.change.low, "high": self.change.high}
        rest = {"base_interval": self.base[1:], "tuned_interval": self.tuned[1:]}
        counts = {key: asdict(self)[key] for key in ("num_prompts", "num_images", "extractor")}
        known = {key: value if math.isfinite(value) else None for key, value in (numbers | interval).items()}
        bounds = {key: [x if math.isfinite(x) else None for x in pair] for key, pair in rest.items()}
        return {"metric": self.metric, **known, **bounds, **counts}


@dataclass(frozen=True)
class Measurements:
    """One model on prompts x seeds.

    Attributes:
        columns: Metric -> one number per prompt, averaged over its seeds.
        features: Of every image, for the distance to a reference.
        extractors: Metric -> what measured.
    """

    columns: Mapping[str, Column]
    features: Float[Tensor, "prompt seed feature"]
    extractors: Mapping[str, str]


class Evaluator:
    """The measuring instruments, loaded once.

    Args:
        weights: The starter's folder of weights; the judge in it takes no part in training.
        reference: Images that the model should look like: renders of held-out combinations.

    Raises:
        LookupError: Weights are missing.
    """

    def __init__(
        self, weights: Path, reference: UInt8[Tensor, "sample 3 height width"], device: str = "cpu"
    ) -> None:
        self.judge = AttributeVerifier(weights / "judge", "judge", device)
        self.clip = ClipReward(weights / "clip", device)
        self.quality = QualityReward(weights / "quality", device)
        self.device = device
        self.reference = statistics(taps_of(reference, smooth=True, device=device)).cpu()

    def measure(
        self, images: UInt8[Tensor, "prompt seed 3 height width"], prompts: Sequence[str]
    ) -> Measurements:
        """All metrics of the images of some prompts, each with the same number of seeds."""
        num_prompts, num_seeds = images.shape[:2]
        texts = [prompt for prompt in prompts for _ in range(num_seeds)]
        groups = [group for group in range(num_prompts) for _ in range(num_seeds)]
        batch = ScoreBatch(images.flatten(0, 1), texts, groups)
        readings = {
            **shares_right(self.judge, batch),
            "clip": self.clip.score(batch).values,
            "quality": self.quality.score(batch).values,
        }
        columns = {name: by_prompt(values.reshape(num_prompts, -1)) for name, values in readings.items()}
        spread = distances_within(batch, num_seeds, self.device)
        columns["diversity"] = by_prompt(spread.reshape(num_prompts, -1))
        features = statistics(taps(batch, smooth=True, device=self.device)).cpu()
        return Measurements(
            columns, features.unflatten(0, (num_prompts, num_seeds)), self._extractors(columns)
        )

    def _extractors(self, columns: Mapping[str, Column]) -> dict[str, str]:
        judge = f"{self.judge.spec.title} {self.judge.spec.version}"
        known = {
            "clip": f"{self.clip.spec.title} {self.clip.spec.version}",
            "quality": f"{self.quality.spec.title} {self.quality.spec.version}",
            "diversity": f"perceptual-{FEATURES}",
            KID: FEATURES,
        }
        return {name: known.get(name, judge) for name in (*columns, KID)}


def shares_right(judge: AttributeVerifier, batch: ScoreBatch) -> dict[str, Tensor]:
    """`judge`: share of the asked attributes that the judge reads as asked; and the same per slot."""
    asked = [parse_prompt(prompt) for prompt in batch.prompts]
    right = {}
    for slot, probabilities in zip(SLOTS, judge.probabilities(batch.images), strict=True):
        labels = torch.tensor([slot.labels.index(a[slot.name]) if slot.name in a else -1 for a in asked])
        hits = (probabilities.argmax(dim=1) == labels).float()
        right[f"judge/{slot.name}"] = hits.masked_fill(labels < 0, float("nan"))
    return {"judge": torch.stack(list(right.values())).nanmean(dim=0), **right}


def distances_within(batch: ScoreBatch, num_seeds: int, device: str = "cpu") -> Float[Tensor, " sample"]:
    """Each image's mean perceptual distance to the others of its prompt; NaN where it is the only one.

    Args:
        batch: Prompt by prompt, each with `num_seeds` images.
    """
    rows = embed(taps(batch, smooth=True, device=device))
    if num_seeds < 2:
        return torch.full((len(batch),), float("nan"))
    groups = (pairwise([tap[at : at + num_seeds] for tap in rows]) for at in range(0, len(batch), num_seeds))
    return torch.cat([group.sum(dim=1) / (num_seeds - 1) for group in groups]).cpu()


def compare(
    base: Measurements, tuned: Measurements, reference: Float[Tensor, "other feature"], seed: int = 0
) -> list[Difference]:
    """The paired differences of two models, KID last.

    Args:
        base, tuned: The same prompts in the same order, the same seeds.
        reference: Features of the images that both should look like.
        seed: Of the bootstrap.

    Raises:
        ValueError: The two were not measured on the same prompts and seeds.
    """
    if base.features.shape != tuned.features.shape or base.columns.keys() != tuned.columns.keys():
        raise ValueError(
            "expected both models on the same prompts and seeds, got "
            f"{tuple(base.features.shape[:2])} and {tuple(tuned.features.shape[:2])} images"
        )
    num_prompts, num_seeds = base.features.shape[:2]
    counts = draws(num_prompts, seed)
    found: dict[str, tuple[Drawn, Drawn, Drawn]] = {}
    for name, one in base.columns.items():
        other = tuned.columns[name]
        found[name] = (mean_of(one, counts), mean_of(other, counts), mean_of(other - one, counts))
    kid = SquaredMMD(reference, cubic)
    first, second = (
        Drawn(kid.distances(measured.features, counts), num_prompts, num_prompts)
        for measured in (base, tuned)
    )
    found[KID] = (first, second, second.minus(first))
    size = num_prompts * num_seeds
    return [
        Difference(
            name, one.figure(), two.figure(), change.figure(), num_prompts, size, base.extractors[name]
        )
        for name, (one, two, change) in found.items()
    ]


def kernel_distance(
    features: Float[Tensor, "sample feature"], reference: Float[Tensor, "other feature"], seed: int = 0
) -> Figure:
    """KID of images to a reference, with its 95% interval over the images. Lower is better; 0 is the same."""
    distances = SquaredMMD(reference, cubic).distances(features[:, None], draws(len(features), seed))
    return Drawn(distances, len(features), len(features)).figure()

"""Base against tuned on the same prompts and seeds: what changed, by how much, and how sure that is.

Every difference is paired, and its interval is a percentile bootstrap over prompts (Efron & Tibshirani 1993):
images of one prompt are not independent, so the prompt is what is drawn again. Nothing here has rewarded a
run, except where a metric's name says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor

from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.clip import ClipReward
from flowgrpo.rewards.encoders import taps
from flowgrpo.rewards.perceptual import embed, pairwise
from flowgrpo.rewards.quality import QualityReward
from flowgrpo.rewards.verifier import AttributeVerifier
from flowgrpo.starter.features import FEATURES, statistics, taps_of
from flowgrpo.starter.vocabulary import SLOTS, parse_prompt

NUM_RESAMPLES: Final = 2_000
KID: Final = f"kid@{FEATURES}"
"""Kernel inception distance (arXiv 1801.01401) on our features: comparable with itself alone. Lower is
better."""
Column = NDArray[np.float64]
"""A metric by `(prompt,)`; NaN where it does not apply to a prompt."""


class Figure(NamedTuple):
    """A number with its 95% interval."""

    value: float
    low: float
    high: float


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
            **_shares_right(self.judge, batch),
            "clip": self.clip.score(batch).values,
            "quality": self.quality.score(batch).values,
        }
        columns = {name: _by_prompt(values, num_prompts) for name, values in readings.items()}
        columns["diversity"] = _diversity(batch, num_prompts, self.device)
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


def _shares_right(judge: AttributeVerifier, batch: ScoreBatch) -> dict[str, Tensor]:
    """`judge`: share of the asked attributes that the judge reads as asked; and the same per slot."""
    asked = [parse_prompt(prompt) for prompt in batch.prompts]
    right = {}
    for slot, probabilities in zip(SLOTS, judge.probabilities(batch.images), strict=True):
        labels = torch.tensor([slot.labels.index(a[slot.name]) if slot.name in a else -1 for a in asked])
        hits = (probabilities.argmax(dim=1) == labels).float()
        right[f"judge/{slot.name}"] = hits.masked_fill(labels < 0, float("nan"))
    return {"judge": torch.stack(list(right.values())).nanmean(dim=0), **right}


def _by_prompt(values: Float[Tensor, " sample"], num_prompts: int) -> Column:
    return values.double().reshape(num_prompts, -1).nanmean(dim=1).numpy()


def _diversity(batch: ScoreBatch, num_prompts: int, device: str) -> Column:
    """Mean perceptual distance between the images of a prompt."""
    rows = embed(taps(batch, smooth=True, device=device))
    size = len(batch) // num_prompts
    if size < 2:
        return np.full(num_prompts, np.nan)
    groups = (pairwise([tap[start : start + size] for tap in rows]) for start in range(0, len(batch), size))
    return np.array([group.sum().item() / (size * (size - 1)) for group in groups])


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
    counts = resamples(num_prompts, seed)
    pairs = {
        name: (_means(base.columns[name], counts), _means(tuned.columns[name], counts))
        for name in base.columns
    }
    pairs[KID] = (_kid(base.features, reference, counts), _kid(tuned.features, reference, counts))
    return [
        Difference(
            name, _figure(one), _figure(two), _figure(two - one), num_prompts, num_prompts * num_seeds,
            base.extractors[name],
        )
        for name, (one, two) in pairs.items()
    ]  # fmt: skip


def resamples(num_prompts: int, seed: int) -> Int64[np.ndarray, "resample prompt"]:
    """How often each prompt is drawn; the first row is the data as it is, then come 2,000 resamples."""
    drawn = np.random.default_rng(seed).multinomial(
        num_prompts, [1 / num_prompts] * num_prompts, NUM_RESAMPLES
    )
    return np.concatenate([np.ones((1, num_prompts), dtype=np.int64), drawn.astype(np.int64)])


def _means(column: Column, counts: Int64[np.ndarray, "resample prompt"]) -> Float64[np.ndarray, " resample"]:
    present = ~np.isnan(column)
    weights = (counts @ present).astype(np.float64)
    weights[weights == 0] = np.nan
    means: Column = counts @ np.where(present, column, 0.0) / weights
    return means


def _figure(values: Float64[np.ndarray, " resample"]) -> Figure:
    if np.isnan(values[0]):
        return Figure(float("nan"), float("nan"), float("nan"))
    low, high = np.nanquantile(values[1:], [0.025, 0.975])
    return Figure(float(values[0]), float(low), float(high))


def kernel_distance(
    features: Float[Tensor, "sample feature"], reference: Float[Tensor, "other feature"], seed: int = 0
) -> Figure:
    """KID of images to a reference, with its 95% interval over the images. Lower is better; 0 is the same."""
    return _figure(_kid(features[:, None], reference, resamples(len(features), seed)))


def _kid(
    features: Float[Tensor, "prompt seed feature"],
    reference: Float[Tensor, "other feature"],
    counts: Int64[np.ndarray, "resample prompt"],
) -> Float64[np.ndarray, " resample"]:
    """Unbiased squared MMD with the cubic kernel of KID, for every resample of the prompts.

    Features are standardised by the reference, so that no tap drowns the others. Only pairs of different
    prompts enter: images of one prompt are alike by design, and a prompt drawn twice would meet itself.
    """
    num_prompts, num_seeds = features.shape[:2]
    mean, std = reference.double().mean(0), reference.double().std(0).clamp_min(1e-6)
    ours, theirs = ((x.double() - mean) / std for x in (features.flatten(0, 1), reference))
    within = _kernel(ours, ours).reshape(num_prompts, num_seeds, num_prompts, num_seeds).mean((1, 3)).numpy()
    across = _kernel(ours, theirs).reshape(num_prompts, -1).mean(1).numpy()
    rest = _kernel(theirs, theirs)
    size = len(theirs)
    fixed = (rest.sum() - rest.diagonal().sum()).item() / (size * (size - 1))
    total, squares = counts.sum(1), (counts**2).sum(1)
    off_diagonal = (
        np.einsum("rp,pq,rq->r", counts, within, counts, optimize=True) - counts**2 @ within.diagonal()
    )
    pairs = (total**2 - squares).astype(np.float64)
    pairs[pairs == 0] = np.nan  # a resample of one prompt alone has none
    distances: Column = off_diagonal / pairs + fixed - 2 * (counts @ across) / total
    return distances


def _kernel(
    first: Float64[Tensor, "sample feature"], second: Float64[Tensor, "other feature"]
) -> Float64[Tensor, "sample other"]:
    return (first @ second.T / first.shape[1] + 1) ** 3

"""How often the 95% intervals of an evaluation hold the truth, by simulation: 64 prompts of 4 images, which
are alike where they are of one prompt.

    python -m benchmarks.coverage [--repeats 2000]

Column metrics are simulated as they come: normal ones, shares near one (the judge), rare events, skewed ones,
and paired differences. The kernel distance is simulated with Gaussian features.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common import Line, publish
from flowgrpo.metrics.intervals import Drawn, draws, mean_of
from flowgrpo.metrics.kernels import SquaredMMD, gaussian, standardised

PROMPTS, SEEDS = 64, 4
WANTED, TOLERANCE = 95.0, 2.0
FEATURES, REFERENCES = 8, 512
Rng = np.random.Generator
Truth = tuple[NDArray[np.float64], float]
"""Images by (prompt, seed), and the mean that they are drawn from."""


def normal(rng: Rng) -> Truth:
    """Half of the variance is the prompt's."""
    return rng.normal(size=(PROMPTS, 1)) + rng.normal(size=(PROMPTS, SEEDS)), 0.0


def share(rng: Rng) -> Truth:
    """Of seven attributes, about 96% right, as the judge sees portraits."""
    right = rng.beta(12, 0.5, size=(PROMPTS, 1))
    return rng.binomial(7, np.broadcast_to(right, (PROMPTS, SEEDS))) / 7, 12 / 12.5


def rare(rng: Rng) -> Truth:
    """Something that happens to 9% of the images, mostly at a few prompts."""
    chance = rng.beta(0.3, 3, size=(PROMPTS, 1))
    return rng.binomial(1, np.broadcast_to(chance, (PROMPTS, SEEDS))).astype(float), 0.3 / 3.3


def skewed(rng: Rng) -> Truth:
    """Exponential over prompts and over images."""
    return rng.exponential(size=(PROMPTS, 1)) + rng.exponential(size=(PROMPTS, SEEDS)), 2.0


def difference(rng: Rng) -> Truth:
    """Of two models on the same prompts and seeds: prompts differ much, the gain little."""
    gain = 0.05 + rng.normal(0, 0.1, size=(PROMPTS, 1)) + rng.normal(0, 0.1, size=(PROMPTS, SEEDS))
    return gain, 0.05


SHAPES: Mapping[str, Callable[[Rng], Truth]] = {
    "normal": normal, "shares near one": share, "rare events": rare, "skewed": skewed,
    "paired differences": difference,
}  # fmt: skip


@cache
def _draws(seed: int) -> NDArray[np.int64]:
    return draws(PROMPTS, seed)


def draws_of(repeat: int) -> NDArray[np.int64]:
    """Fifty bootstraps take turns: they cost more than all the rest."""
    return _draws(repeat % 50)


def covered_by_means(shape: Callable[[Rng], Truth], repeats: int, seed: int) -> float:
    """Percent of the repeats whose interval holds the true mean."""
    rng, hits = np.random.default_rng(seed), 0
    for repeat in range(repeats):
        images, truth = shape(rng)
        figure = mean_of(images.mean(1), draws_of(repeat)).figure()
        hits += figure.low <= truth <= figure.high
    return 100 * hits / repeats


def covered_by_distance(repeats: int, seed: int, *, shift: float = 0.5) -> float:
    """The same of the squared MMD by the Gaussian kernel, against a reference that stays as it is.

    The truth is the mean of many large samples, of images that have a prompt each.
    """
    rng = np.random.default_rng(seed)
    reference = torch.from_numpy(rng.normal(size=(REFERENCES, FEATURES)))
    rows = standardised(reference, reference)
    measured = SquaredMMD(reference, gaussian(float(torch.pdist(rows).median())))
    large = torch.from_numpy(rng.normal(size=(20_000, 1, FEATURES)) + shift)
    truth = float(
        np.mean([measured.distances(part, draws(len(part), 0, 1))[0] for part in large.split(2_000)])
    )
    hits = 0
    for repeat in range(repeats):
        of_prompt = rng.normal(0, 0.5**0.5, size=(PROMPTS, 1, FEATURES))
        features = torch.from_numpy(
            shift + of_prompt + rng.normal(0, 0.5**0.5, size=(PROMPTS, SEEDS, FEATURES))
        )
        found = Drawn(measured.distances(features, draws_of(repeat)), PROMPTS, PROMPTS).figure()
        hits += found.low <= truth <= found.high
    return 100 * hits / repeats


def measure(repeats: int) -> list[Line]:
    found = {name: covered_by_means(shape, repeats, 1) for name, shape in SHAPES.items()}
    found["kernel distance"] = covered_by_distance(max(repeats // 4, 1), 1)
    lines = []
    for name, percent in found.items():
        lines.append(Line(f"{name}: intervals that hold the truth", percent, "%", WANTED - TOLERANCE, True))
        lines.append(Line(f"{name}: at most", percent, "%", WANTED + TOLERANCE))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=2_000, help="simulated evaluations of each kind")
    given = parser.parse_args()
    publish("coverage", measure(given.repeats))


if __name__ == "__main__":
    main()

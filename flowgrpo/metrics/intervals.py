"""How sure a number is: 95% intervals from drawing the prompts again.

Images of one prompt are not independent, so the prompt is what is drawn. The plain percentile bootstrap
covers too seldom for 64 prompts (92 to 94% where a column is skewed, as shares near one are), so the ends are
those of BCa (Efron 1987), at quantiles widened by Student's t (Hesterberg 2015). `benchmarks/coverage.py`
checks it by simulation; docs/evaluation.md has the figures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

NUM_RESAMPLES: Final = 2_000
TAIL: Final = 0.025
"""Left out on each side of an interval."""
MIN_PROMPTS: Final = 6
"""Fewest with an interval: where nothing differs, five prompts all agree once in 16 times (2 / 2^5)."""
FEW: Final = f"no interval below {MIN_PROMPTS} prompts"
Column = NDArray[np.float64]
"""A metric by `(prompt,)`; NaN where it does not apply to a prompt."""
NAN: Final = float("nan")


class Figure(NamedTuple):
    """A number with its 95% interval.

    All NaN where there is no number; the ends alone where fewer than `MIN_PROMPTS` prompts have one.
    """

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


NOTHING: Final = Figure(NAN, NAN, NAN)


def resamples(
    num_prompts: int, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> Int64[np.ndarray, "resample prompt"]:
    """How often each prompt is drawn; the first row is the data as it is."""
    drawn = np.random.default_rng(seed).multinomial(
        num_prompts, [1 / num_prompts] * num_prompts, num_resamples
    )
    return np.concatenate([np.ones((1, num_prompts), dtype=np.int64), drawn.astype(np.int64)])


def draws(
    num_prompts: int, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> Int64[np.ndarray, "draw prompt"]:
    """`resamples`, and after them the data without each prompt: what `Drawn` takes a statistic of."""
    without = np.ones((num_prompts, num_prompts), dtype=np.int64) - np.eye(num_prompts, dtype=np.int64)
    return np.concatenate([resamples(num_prompts, seed, num_resamples), without])


@dataclass(frozen=True)
class Drawn:
    """A statistic of the data as they are, of each resample, and without each prompt.

    Attributes:
        values: In the order of `draws`.
        num_prompts: All of them; so many of the last values are those without one.
        num_present: Prompts that have a number.
    """

    values: Float64[np.ndarray, " draw"]
    num_prompts: int
    num_present: int

    def minus(self, other: Drawn) -> Drawn:
        """The difference to the same statistic of another model, draw by draw: paired."""
        present = min(self.num_present, other.num_present)
        return Drawn(self.values - other.values, self.num_prompts, present)

    def figure(self) -> Figure:
        """The statistic with its BCa interval, widened for few prompts."""
        value = float(self.values[0])
        if np.isnan(value) or self.num_present < MIN_PROMPTS:
            return Figure(value, NAN, NAN)
        parts = self.values[1 : -self.num_prompts], self.values[-self.num_prompts :]
        again, without = (part[np.isfinite(part)] for part in parts)
        widened = _widened(self.num_present)
        below = (np.mean(again < value) + np.mean(again <= value)) / 2
        bias = float(ndtri(np.clip(below, 1 / (len(again) + 1), len(again) / (len(again) + 1))))
        skew = _acceleration(without)
        ends = [_adjusted(end, bias, skew) for end in (-widened, widened)]
        low, high = np.quantile(again, ends)
        return Figure(value, float(low), float(high))


def _widened(num_prompts: int) -> float:
    """The normal deviate whose percentile interval of a mean is Student's for so many prompts."""
    deviate = float(stdtrit(num_prompts - 1, 1 - TAIL))
    return deviate * math.sqrt(num_prompts / (num_prompts - 1))


def _acceleration(without: Column) -> float:
    """How fast the standard error changes with the statistic: the jackknife's skewness over six."""
    apart = without.mean() - without
    squares, cubes = float((apart**2).sum()), float((apart**3).sum())
    return cubes / (6 * squares * math.sqrt(squares)) if squares > 1e-30 else 0.0


def _adjusted(deviate: float, bias: float, skew: float) -> float:
    """The share of the resamples below an end (BCa)."""
    moved = bias + deviate
    shrunk = max(1 - skew * moved, 1e-6)
    return float(ndtr(bias + moved / shrunk))


def means(column: Column, counts: Int64[np.ndarray, "draw prompt"]) -> Float64[np.ndarray, " draw"]:
    """The mean over the prompts that have a number, for each draw; NaN for a draw that has none."""
    present = ~np.isnan(column)
    weights = (counts @ present).astype(np.float64)
    weights[weights == 0] = np.nan
    found: Column = counts @ np.where(present, column, 0.0) / weights
    return found


def mean_of(column: Column, counts: Int64[np.ndarray, "draw prompt"]) -> Drawn:
    """A column's mean over prompts, with `counts` from `draws`."""
    return Drawn(means(column, counts), len(column), int((~np.isnan(column)).sum()))


def with_error(values: Float64[np.ndarray, " resample"], num_prompts: int) -> Figure:
    """The first value with Student's interval of the others' spread, for statistics that a resample shifts.

    The Frechet distance is one: a resample has fewer different images, and lies further away for that alone.
    """
    value, spread = float(values[0]), values[1:][np.isfinite(values[1:])]
    if np.isnan(value) or num_prompts < MIN_PROMPTS or len(spread) < 2:
        return Figure(value, NAN, NAN)
    half = float(stdtrit(num_prompts - 1, 1 - TAIL)) * float(spread.std(ddof=1))
    return Figure(value, value - half, value + half)

"""How a cost grows with a size: its exponent, and the exponent of what is left when a part does not grow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

FLAT = 1.25
"""Costs that rise by less than this, from the smallest size to the largest, are said to hardly grow."""
WIDE = 0.25
"""An exponent whose interval reaches further than this to either side says little."""
SMALL_SHARE = 0.05
"""An offset below this share of the smallest cost hides nothing."""
HIDDEN = 0.05
"""Nor does one that takes less than this from the exponent."""
FITS = 0.2
"""A curve that is further than this from the cost at any size explains nothing."""
POWERS = np.round(np.arange(0.02, 4.001, 0.01), 2)
"""Among which that of a curve with an offset is looked for."""
_Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Offset:
    """cost = offset + factor * size ** power, both of them at least 0, by least squares of relative errors.

    Attributes:
        off_by: the largest relative error at any size.
    """

    offset: float
    factor: float
    power: float
    off_by: float

    def at(self, sizes: _Numbers) -> _Numbers:
        """Costs on the curve."""
        return self.offset + self.factor * sizes**self.power


@dataclass(frozen=True)
class Growth:
    """What some measurements say.

    Attributes:
        exponent: least-squares slope of log cost over log size, through the medians of the turns.
        half: half of its 95% interval, by Student's t over how far the sizes lie from that line.
        rise: cost at the largest size over that at the smallest.
        curve: through the medians, with an offset.
        lowest, highest: the power of such a curve by each turn alone.
    """

    exponent: float
    half: float
    rise: float
    curve: Offset
    lowest: float
    highest: float
    offset_share: float
    """Of the cost at the smallest size."""

    @property
    def is_flat(self) -> bool:
        """Whether there is hardly any growth, so that the power of a curve means nothing."""
        return self.rise < FLAT

    @property
    def misleads(self) -> bool:
        """Whether the exponent is too low for larger sizes, since it counts an offset that does not grow: in
        every turn the rest has a higher power, and one that can be told.
        """
        is_higher = self.lowest > self.exponent + HIDDEN and self.highest < POWERS[-1]
        explains = self.offset_share > SMALL_SHARE and self.curve.off_by < FITS
        return not self.is_flat and explains and is_higher

    @property
    def is_uncertain(self) -> bool:
        """Whether the sizes lie too far from the line for an exponent."""
        return self.half > WIDE


def growth_of(sizes: Sequence[int], seconds: Sequence[Sequence[float]]) -> Growth:
    """The growth of a cost.

    Args:
        seconds: for each size, one number a turn.

    Raises:
        ValueError: fewer than three sizes, whose line has no interval.
    """
    if len(sizes) < 3:
        raise ValueError(f"an exponent with an interval needs three sizes, got {len(sizes)}")
    x, medians = np.array(sizes, dtype=float), np.array([median(row) for row in seconds])
    exponent, half = line(np.log(x), np.log(medians))
    curve = with_offset(x, medians)
    powers = [with_offset(x, np.array(turn)).power for turn in zip(*seconds, strict=True)]
    share, rise = curve.offset / curve.at(x)[0], medians[-1] / medians[0]
    return Growth(exponent, half, float(rise), curve, min(powers), max(powers), float(share))


def line(x: _Numbers, y: _Numbers) -> tuple[float, float]:
    """Least-squares slope and half of its 95% interval."""
    apart = x - x.mean()
    slope = float((apart @ y) / (apart @ apart))
    left = y - y.mean() - slope * apart
    error = math.sqrt(float(left @ left) / (len(x) - 2) / float(apart @ apart))
    return slope, float(student.ppf(0.975, len(x) - 2)) * error


def with_offset(sizes: _Numbers, costs: _Numbers) -> Offset:
    """The curve that fits best, among all powers."""
    grown = (sizes / sizes[0]) ** POWERS[:, None] / costs  # (power, size), in units of the cost there
    still = np.broadcast_to(1 / costs, grown.shape)
    aa, ab, bb, a, b = (
        (x * y).sum(1)
        for x, y in ((still, still), (still, grown), (grown, grown), (still, 1.0), (grown, 1.0))
    )
    factor = np.clip((aa * b - ab * a) / np.maximum(aa * bb - ab**2, 1e-12), 0, None)
    offset = np.clip((a - factor * ab) / aa, 0, None)
    factor = np.where(offset > 0, factor, b / bb)
    errors = offset[:, None] * still + factor[:, None] * grown - 1
    best = int((errors**2).sum(1).argmin())
    power = float(POWERS[best])
    scale = float(factor[best] / sizes[0] ** power)
    return Offset(float(offset[best]), scale, power, float(np.abs(errors[best]).max()))

"""How large gradients usually are, so that one that is far larger can be cut down to that.

The z-score is that of the logarithm of the norm against its moving average (after ZClip, arXiv 2504.02507,
which takes the norm itself; norms vary by factors).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Z = 4.0
"""Standard deviations above the average beyond which a norm is a spike."""
DECAY = 0.97
WARM_UP = 20
"""Norms that are averaged evenly before anything is called a spike."""
MIN_STD = 0.05
"""Of the logarithm: norms that hardly vary do not make 1.1 times the usual a spike."""


@dataclass(frozen=True)
class UsualNorm:
    """Mean and variance of the logarithm of the norms so far, late ones counting most."""

    count: int = 0
    mean: float = 0.0
    variance: float = 0.0

    @property
    def bound(self) -> float:
        """The largest norm that is no spike; infinite while too few are known."""
        if self.count < WARM_UP:
            return math.inf
        return math.exp(self.mean + Z * max(math.sqrt(self.variance), MIN_STD))

    def after(self, norm: float) -> UsualNorm:
        """With one more norm; what is not finite or zero tells nothing, and a spike counts as the bound."""
        if not (math.isfinite(norm) and norm > 0):
            return self
        x = math.log(min(norm, self.bound))
        share = 1 / (self.count + 1) if self.count < WARM_UP else 1 - DECAY
        delta = x - self.mean
        return UsualNorm(
            self.count + 1,
            self.mean + share * delta,
            (1 - share) * (self.variance + share * delta * delta),
        )

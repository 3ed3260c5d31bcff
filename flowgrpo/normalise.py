"""One reward's column -> how far each sample is from its group, in a unit that all rewards share.

The statistics are those of `AdvantageConfig.std`; how the columns then become one advantage is
`flowgrpo.advantages`. All in float64, since group differences can be small beside the rewards themselves.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flowgrpo.config import AdvantageConfig
from flowgrpo.running import RunningStatistics

STD_FLOOR = 0.5
"""Of the calibrated std: a group half as varied as usual is the flattest that is scaled up to full
advantages.
"""
Z_CLIP = 3.0
DEAD_SHARE = 0.1
"""Of the calibrated std: a reward that varies less than this within a group says nothing about it."""
ROUNDING = 1e-6
"""Differences below this share of a reward's size (or of 1, if larger) are float32 noise, not judgement."""
CEILING = 0.99
"""Quantile of the base's scores beyond which a reward gains nothing, where it is capped at the base."""

Column = Float[Tensor, "group sample"]
Mask = Bool[Tensor, "group sample"]


def calibrate(rewards: Mapping[str, Column]) -> dict[str, float]:
    """Median over groups of each reward's std within a group, from groups of the base; NaN is left out.

    A reward that no group could be given two scores of is absent from the result.
    """
    stds: dict[str, float] = {}
    for name, values in rewards.items():
        scored = values.double().isfinite()
        _, std = group_moments(values.double(), scored)
        usable = std[scored.sum(1) >= 2]
        if len(usable):
            stds[name] = usable.median().item()
    return stds


def ceilings(rewards: Mapping[str, Column]) -> dict[str, float]:
    """The 99th percentile of each reward over all images of some groups, linearly interpolated; NaN is left
    out, and so is a reward without a score.
    """
    finite = {name: values.double()[values.isfinite()] for name, values in rewards.items()}
    return {name: values.quantile(CEILING).item() for name, values in finite.items() if len(values)}


def capped(values: Column, ceiling: float | None) -> Column:
    """The column with nothing above the ceiling; what is not finite is NaN, before and after."""
    if ceiling is None:
        return values
    return torch.where(values.isfinite(), values.clamp(max=ceiling), float("nan"))


def group_moments(values: Column, mask: Mask) -> tuple[Float[Tensor, " group"], Float[Tensor, " group"]]:
    """Mean and std (unbiased) of the masked samples of each group."""
    count = mask.sum(1)
    filled = torch.where(mask, values, 0.0)
    mean = filled.sum(1) / count.clamp(min=1)
    squares = torch.where(mask, (filled - mean[:, None]) ** 2, 0.0).sum(1)
    return mean, (squares / (count - 1).clamp(min=1)).sqrt()


def std_of(values: Float[Tensor, " sample"]) -> float:
    """Over n; 0 of nothing."""
    return values.std(correction=0).item() if len(values) else 0.0


def by_calibration(
    values: Column, mask: Mask, calibrated_std: float
) -> tuple[Column, Bool[Tensor, " group"]]:
    """(z, whether the reward varies in the group) of one reward, by our rule: a floor under the std."""
    mean, std = group_moments(values, mask)
    noise = ROUNDING * mean.abs().clamp(min=1)
    floor = noise.clamp(min=STD_FLOOR * calibrated_std)
    z = (values - mean[:, None]) / torch.maximum(std, floor)[:, None]
    varies = std >= noise.clamp(min=DEAD_SHARE * calibrated_std)
    return torch.where(mask, z.clamp(-Z_CLIP, Z_CLIP), 0.0), varies


def as_published(
    name: str, values: Column, mask: Mask, config: AdvantageConfig, running: RunningStatistics | None
) -> tuple[Column, Bool[Tensor, " group"]]:
    """(z, whether the reward varies in the group) by the statistics of published code.

    Their small numbers beside the std (1e-4, 1e-6, 1e-8) are not needed: what varies by no more than rounding
    is dead.
    """
    mean, within = group_moments(values, mask)
    noise = ROUNDING * mean.abs().clamp(min=1)
    varies = std = within
    if config.std == "running":
        assert running is not None
        mean, std = running.moments(name, values)
        varies = std
    elif config.std == "global":
        std = torch.full_like(within, std_of(values[mask]))
    elif config.std == "pooled":
        free = (mask.sum(1) - 1).clamp(min=0) * (within >= noise)
        std = torch.full_like(within, ((within**2 * free).sum() / free.sum().clamp(min=1)).sqrt().item())
    z = (values - mean[:, None]) / std.maximum(noise)[:, None]
    return torch.where(mask, z, 0.0), varies >= noise


def win_shares(values: Column, mask: Mask) -> Column:
    """Share of the other masked samples of its group that each one beats, ties as halves: 0 to 1, 1/2 on
    average (Pref-GRPO, arXiv 2508.20751, with a reward's order in the place of its judge of pairs).

    A difference within rounding is a tie. NaN where a sample is masked or has no other to be held against.
    """
    mean, _ = group_moments(values, mask)
    noise = ROUNDING * mean.abs().clamp(min=1)
    gaps = values[:, :, None] - values[:, None, :]
    points = torch.where(gaps.abs() <= noise[:, None, None], 0.5, (gaps > 0).double())
    others = mask[:, None, :] & ~torch.eye(values.shape[1], dtype=torch.bool, device=values.device)
    shares = torch.where(others, points, 0.0).sum(2) / others.sum(2).clamp(min=1)
    return torch.where(mask & others.any(2), shares, float("nan"))

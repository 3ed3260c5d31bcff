"""Reward columns of some groups -> one advantage per sample (rewards.md 7.2).

    z = clip((r - group mean) / max(group std, s / 2), -3, 3)    s: the reward's std in groups of the base
    A = sum_k w_k z_k / sum_k |w_k|                              over the rewards that the group has
    A = A / max(batch std of A, 1/4)                             batch, not group: a flat group stays flat
    A = A * clip(d / group mean d, 1/2, 2) where A > 0           d: a sample's distance from its neighbours
    A = min(A, 0) where a gate failed;   A = clip(A, -5, 5)

That is `std = calibrated`. The other statistics are those of published code: z = (r - mean) / std, and no
second division:

    group      mean and std of the group                        DanceGRPO, MixGRPO
    global     mean of the group, std of all rewards (over n)   Flow-GRPO, DiffusionNFT, AWM
    pooled     mean of the group, sqrt(mean over groups of the variance within)
    running    mean and std of the prompt's last rewards        DDPO

A missing score is NaN and is never taken for a number. A group that shows no difference is dead and teaches
nothing. All in float64, since group differences can be small beside the rewards themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flowgrpo.config import AdvantageConfig
from flowgrpo.running import Buffers, RunningStatistics

RAW_SUM = "weighted sum"
"""Name of the one column that `raw_sum` makes of all rewards."""
STD_FLOOR = 0.5
"""Of the calibrated std: a group half as varied as usual is the flattest that is scaled up to full
advantages.
"""
Z_CLIP = 3.0
BATCH_STD_FLOOR = 0.25
DIVERSITY_RANGE = (0.5, 2.0)
DEAD_SHARE = 0.1
"""Of the calibrated std: a reward that varies less than this within a group says nothing about it."""
ROUNDING = 1e-6
"""Differences below this share of a reward's size (or of 1, if larger) are float32 noise, not judgement."""

Rewards = Float[Tensor, "group sample"]


@dataclass(frozen=True)
class Advantages:
    """What each sample of each group teaches.

    values: 0 for whatever does not count. is_counted: False for samples without a score and for all of a dead
        group.
    """

    values: Float[Tensor, "group sample"]
    is_counted: Bool[Tensor, "group sample"]
    dead_groups: Bool[Tensor, " group"]
    metrics: dict[str, float] = field(default_factory=dict)
    buffers: Buffers = field(default_factory=dict)
    """The running statistics after this rollout, where they are used; JSON."""


def calibrate(rewards: Mapping[str, Rewards]) -> dict[str, float]:
    """Median over groups of each reward's std within a group, from groups of the base; NaN is left out.

    A reward that no group could be given two scores of is absent from the result.
    """
    stds: dict[str, float] = {}
    for name, values in rewards.items():
        scored = values.double().isfinite()
        _, std = _group_moments(values.double(), scored)
        usable = std[scored.sum(1) >= 2]
        if len(usable):
            stds[name] = usable.median().item()
    return stds


def combine(
    rewards: Mapping[str, Rewards],
    weights: Mapping[str, float],
    calibrated_stds: Mapping[str, float],
    *,
    diversity: Rewards | None = None,
    gate_failed: Bool[Tensor, "group sample"] | None = None,
    clip: float = 5.0,
    config: AdvantageConfig | None = None,
    running: RunningStatistics | None = None,
) -> Advantages:
    """The rule above.

    A group has a reward if more than half of its samples were scored by it; a sample counts if every reward
    that its group has scored it. Of a raw sum, a sample has all weighted rewards or none. Raises ValueError
    for a weighted reward without scores, or without the statistics that `config` asks for.

    Args:
        config: which statistics; the calibrated ones by default.
        running: at the prompts of these groups; for `std = running`.
    """
    config = config or AdvantageConfig()
    used = {name: weight for name, weight in weights.items() if weight != 0}
    _check(rewards, used, calibrated_stds, config, running)
    raw = columns = {name: rewards[name].double() for name in used}
    if config.combine == "raw_sum":
        summed = torch.stack([weight * raw[name] for name, weight in used.items()]).sum(0)
        columns, used = {RAW_SUM: summed}, {RAW_SUM: 1.0}
    counted, present = _presence(columns)

    total = torch.zeros_like(next(iter(columns.values())))
    weight_sum = torch.zeros(len(total), dtype=torch.float64, device=total.device)
    alive = torch.zeros_like(weight_sum, dtype=torch.bool)
    for name, weight in used.items():
        mask = counted & present[name][:, None]
        if config.std == "calibrated":
            z, varies = _calibrated(columns[name], mask, calibrated_stds.get(name, 0.0))
        else:
            z, varies = _published(name, columns[name], mask, config, running)
        total += weight * z
        weight_sum += abs(weight) * present[name]
        alive |= varies & present[name]
    counted &= alive[:, None]
    values = torch.where(counted, total / weight_sum.clamp(min=1e-12)[:, None], 0.0)
    if config.std == "calibrated":
        values = values / max(_std(values[counted]), BATCH_STD_FLOOR)
    values = _shape(values, counted, diversity if config.diversity else None, gate_failed).clamp(-clip, clip)
    metrics = _metrics(values, counted, alive) | _reward_metrics(raw)
    buffers = running.after(columns) if running else {}
    return Advantages(values.float(), counted, ~alive, metrics, buffers)


def _presence(columns: Mapping[str, Rewards]) -> tuple[Tensor, dict[str, Tensor]]:
    """(samples that count as far as their scores go, name to whether each group has that reward)."""
    scored = {name: column.isfinite() for name, column in columns.items()}
    present = {name: mask.sum(1) > mask.shape[1] / 2 for name, mask in scored.items()}
    counted = torch.stack([scored[name] | ~present[name][:, None] for name in columns]).all(0)
    counted &= torch.stack(list(present.values())).any(0)[:, None]
    return counted & (counted.sum(1) >= 2)[:, None], present


def _check(
    rewards: Mapping[str, Rewards],
    used: Mapping[str, float],
    calibrated_stds: Mapping[str, float],
    config: AdvantageConfig,
    running: RunningStatistics | None,
) -> None:
    if not used:
        raise ValueError(
            "all reward weights are zero, so there is nothing to learn: give at least one a weight"
        )
    for name in used:
        if name not in rewards:
            raise ValueError(
                f"reward '{name}' has a weight but no scores; there are scores of {sorted(rewards)}"
            )
        is_calibrated = config.std != "calibrated" or name in calibrated_stds
        if not is_calibrated and rewards[name].isfinite().any():
            raise ValueError(f"reward '{name}' has no calibrated std: calibrate on groups of the base first")
    if config.std == "running" and running is None:
        raise ValueError("std running needs the running statistics of the groups' prompts")
    shapes = {tuple(rewards[name].shape) for name in used}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise ValueError(f"rewards must all have the one shape (group, sample), got {sorted(shapes)}")


def _group_moments(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and std (unbiased) of the masked samples of each group."""
    count = mask.sum(1)
    filled = torch.where(mask, values, 0.0)
    mean = filled.sum(1) / count.clamp(min=1)
    squares = torch.where(mask, (filled - mean[:, None]) ** 2, 0.0).sum(1)
    return mean, (squares / (count - 1).clamp(min=1)).sqrt()


def _calibrated(values: Tensor, mask: Tensor, calibrated_std: float) -> tuple[Tensor, Tensor]:
    """(z, whether the reward varies in the group) of one reward."""
    mean, std = _group_moments(values, mask)
    noise = ROUNDING * mean.abs().clamp(min=1)
    floor = noise.clamp(min=STD_FLOOR * calibrated_std)
    z = (values - mean[:, None]) / torch.maximum(std, floor)[:, None]
    return torch.where(mask, z.clamp(-Z_CLIP, Z_CLIP), 0.0), std >= noise.clamp(
        min=DEAD_SHARE * calibrated_std
    )


def _published(
    name: str, values: Tensor, mask: Tensor, config: AdvantageConfig, running: RunningStatistics | None
) -> tuple[Tensor, Tensor]:
    """(z, whether the reward varies in the group) by the statistics of published code.

    Their small numbers beside the std (1e-4, 1e-8) are not needed: what varies by no more than rounding is
    dead.
    """
    mean, within = _group_moments(values, mask)
    noise = ROUNDING * mean.abs().clamp(min=1)
    varies = std = within
    if config.std == "running":
        assert running is not None
        mean, std = running.moments(name, values)
        varies = std
    elif config.std == "global":
        std = torch.full_like(within, _std(values[mask]))
    elif config.std == "pooled":
        free = (mask.sum(1) - 1).clamp(min=0) * (within >= noise)
        std = torch.full_like(within, ((within**2 * free).sum() / free.sum().clamp(min=1)).sqrt().item())
    z = (values - mean[:, None]) / std.maximum(noise)[:, None]
    return torch.where(mask, z, 0.0), varies >= noise


def _shape(values: Tensor, counted: Tensor, diversity: Tensor | None, gate_failed: Tensor | None) -> Tensor:
    """Rewards what is unlike its group, and never praises what failed a gate."""
    if diversity is not None:
        known = counted & diversity.isfinite()
        mean, _ = _group_moments(diversity.double(), known)
        factor = (diversity.double() / mean.clamp(min=1e-12)[:, None]).clamp(*DIVERSITY_RANGE)
        values = torch.where(known & (values > 0), values * factor, values)
    if gate_failed is not None:
        values = torch.where(gate_failed, values.clamp(max=0), values)
    return values


def _std(values: Tensor) -> float:
    return values.std(correction=0).item() if len(values) else 0.0


def _metrics(values: Tensor, counted: Tensor, alive: Tensor) -> dict[str, float]:
    """The mean is not subtracted from advantages; it is shown, since clipping and diversity shift it a
    little.
    """
    kept = values[counted]
    return {
        "advantage_mean": kept.mean().item() if len(kept) else 0.0,
        "advantage_std": _std(kept),
        "dead_group_share": 1 - alive.double().mean().item(),
    }


def _reward_metrics(columns: Mapping[str, Tensor]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for name, values in columns.items():
        mask = values.isfinite()
        metrics[f"unscored_share/{name}"] = 1 - mask.double().mean().item()
        if mask.any():
            metrics[f"reward/{name}"] = values[mask].mean().item()
            _, std = _group_moments(values, mask)
            metrics[f"reward_std/{name}"] = (std**2).mean().sqrt().item()
    return metrics

"""Reward columns of some groups -> one advantage per sample (rewards.md 7.2).

    r = min(r, cap)                                              where a reward has one
    z = clip((r - group mean) / max(group std, s / 2), -3, 3)    s: the reward's std in groups of the base
    A = sum_k w_k z_k / sum_k |w_k|                              over the rewards that the group has
    A = A / max(batch std of A, 1/4)                             batch, not group: a flat group stays flat
    A = A * clip(d / group mean d, 1/2, 2) where A > 0           d: a sample's distance from its neighbours
    A = min(A, 0) where a gate failed;   A = clip(A, -5, 5)

That is `combine = normalised` and `std = calibrated`. The other statistics are those of published code:
z = (r - mean) / std, and no second division:

    group      mean and std of the group                        DanceGRPO, MixGRPO
    global     mean of the group, std of all rewards (over n)   Flow-GRPO, DiffusionNFT, AWM
    pooled     mean of the group, sqrt(mean over groups of the variance within)
    running    mean and std of the prompt's last rewards        DDPO

And the other ways to combine, for parity:

    raw_sum    z of sum_k w_k r_k                                                      Flow-GRPO
    gdpo       A = sum_k w_k z_k by `group`; with more than one reward
               A = (A - batch mean) / batch std, over n - 1                            arXiv 2601.05242
    winrate    r_k = share of its group that a sample beats by reward k, then `group`  arXiv 2508.20751

A missing score is NaN and is never taken for a number (GDPO's code takes it for 0). A group that shows no
difference is dead and teaches nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flowgrpo.config import AdvantageConfig
from flowgrpo.normalise import (
    as_published,
    by_calibration,
    calibrate,
    capped,
    ceilings,
    group_moments,
    std_of,
    win_shares,
)
from flowgrpo.running import Buffers, RunningStatistics

__all__ = ["Advantages", "calibrate", "ceilings", "combine", "with_base_caps"]

RAW_SUM = "weighted sum"
"""Name of the one column that `raw_sum` makes of all rewards."""
BATCH_STD_FLOOR = 0.25
DIVERSITY_RANGE = (0.5, 2.0)
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


def with_base_caps(
    config: AdvantageConfig, weights: Mapping[str, float], base: Mapping[str, float]
) -> AdvantageConfig:
    """The settings with `cap_at_base` as numbers: every reward of positive weight that `base` knows ends
    there, unless it has a cap of its own.
    """
    if not config.cap_at_base:
        return config
    known = {name: ceiling for name, ceiling in base.items() if weights.get(name, 0.0) > 0}
    return config.model_copy(update={"caps": known | config.caps, "cap_at_base": False})


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
    """One advantage per sample, by the rule above, which docs/algorithm.md tells in its section 4.

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
    raw = {name: rewards[name].double() for name in used}
    columns = {name: capped(column, config.caps.get(name)) for name, column in raw.items()}
    if config.combine == "raw_sum":
        summed = torch.stack([weight * columns[name] for name, weight in used.items()]).sum(0)
        columns, used = {RAW_SUM: summed}, {RAW_SUM: 1.0}
    counted, present = _presence(columns)
    if config.combine == "winrate":
        columns = {n: win_shares(column, counted & present[n][:, None]) for n, column in columns.items()}

    def normalised(name: str, mask: Tensor) -> tuple[Tensor, Tensor]:
        if config.std == "calibrated":
            return by_calibration(columns[name], mask, calibrated_stds.get(name, 0.0))
        return as_published(name, columns[name], mask, config, running)

    values, alive = _weighed(used, counted, present, normalised)
    scored, counted = counted, counted & alive[:, None]
    values = torch.where(counted, values, 0.0)
    if config.std == "calibrated":
        values = values / max(std_of(values[counted]), BATCH_STD_FLOOR)
    elif config.combine == "gdpo" and len(used) > 1:
        values = torch.where(counted, _standardised(values, scored), 0.0)
    values = _shape(values, counted, diversity if config.diversity else None, gate_failed).clamp(-clip, clip)
    metrics = _metrics(values, counted, alive) | _reward_metrics(raw, config.caps)
    buffers = running.after(columns) if running else {}
    return Advantages(values.float(), counted, ~alive, metrics, buffers)


def _weighed(
    weights: Mapping[str, float],
    counted: Bool[Tensor, "group sample"],
    present: Mapping[str, Bool[Tensor, " group"]],
    normalised: Callable[[str, Tensor], tuple[Tensor, Tensor]],
) -> tuple[Float[Tensor, "group sample"], Bool[Tensor, " group"]]:
    """The weighted mean of the rewards that each group has, and which groups any of them tells apart.

    Args:
        normalised: name and which samples to look at -> z, and in which groups it varies.
    """
    total = torch.zeros(counted.shape, dtype=torch.float64, device=counted.device)
    weight_sum = torch.zeros(len(total), dtype=torch.float64, device=total.device)
    alive = torch.zeros_like(weight_sum, dtype=torch.bool)
    for name, weight in weights.items():
        z, varies = normalised(name, counted & present[name][:, None])
        total += weight * z
        weight_sum += abs(weight) * present[name]
        alive |= varies & present[name]
    return total / weight_sum.clamp(min=1e-12)[:, None], alive


def _standardised(values: Rewards, scored: Bool[Tensor, "group sample"]) -> Rewards:
    """Minus the batch's mean, over its std (n - 1); dead groups have their zeros in both, as in GDPO's."""
    batch = values[scored]
    std = batch.std().item() if len(batch) > 1 else 0.0
    return (values - batch.mean()) / std if std > 0 else values


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
    if config.cap_at_base:
        raise ValueError("cap_at_base needs the base's ceilings: put them in with with_base_caps first")
    if config.std == "running" and running is None:
        raise ValueError("std running needs the running statistics of the groups' prompts")
    shapes = {tuple(rewards[name].shape) for name in used}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise ValueError(f"rewards must all have the one shape (group, sample), got {sorted(shapes)}")


def _shape(values: Tensor, counted: Tensor, diversity: Tensor | None, gate_failed: Tensor | None) -> Tensor:
    """Rewards what is unlike its group, and never praises what failed a gate."""
    if diversity is not None:
        known = counted & diversity.isfinite()
        mean, _ = group_moments(diversity.double(), known)
        factor = (diversity.double() / mean.clamp(min=1e-12)[:, None]).clamp(*DIVERSITY_RANGE)
        values = torch.where(known & (values > 0), values * factor, values)
    if gate_failed is not None:
        values = torch.where(gate_failed, values.clamp(max=0), values)
    return values


def _metrics(values: Tensor, counted: Tensor, alive: Tensor) -> dict[str, float]:
    """The mean is not subtracted from advantages; it is shown, since clipping and diversity shift it a
    little.
    """
    kept = values[counted]
    return {
        "advantage_mean": kept.mean().item() if len(kept) else 0.0,
        "advantage_std": std_of(kept),
        "dead_group_share": 1 - alive.double().mean().item(),
    }


def _reward_metrics(columns: Mapping[str, Tensor], caps: Mapping[str, float]) -> dict[str, float]:
    """Of the rewards as they were given, and which share of their scores a cap has cut."""
    metrics: dict[str, float] = {}
    for name, values in columns.items():
        mask = values.isfinite()
        metrics[f"unscored_share/{name}"] = 1 - mask.double().mean().item()
        if mask.any():
            metrics[f"reward/{name}"] = values[mask].mean().item()
            _, std = group_moments(values, mask)
            metrics[f"reward_std/{name}"] = (std**2).mean().sqrt().item()
            if name in caps:
                metrics[f"capped_share/{name}"] = (values[mask] > caps[name]).double().mean().item()
    return metrics

"""From the rollouts of an update to reward columns, and from those to the numbers that the page shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.stack import RewardStack
from flowgrpo.rollout import Rollout
from flowgrpo.update import UpdateMetrics

DIVERSITY = "diversity"
"""Scored in every run: it shapes positive advantages and is watched, whether or not it has a weight."""

BROKEN = "the image holds numbers that are not finite"


@dataclass(frozen=True)
class Columns:
    """What the stack says about some groups.

    Attributes:
        rewards: Reward name to (group, sample); NaN where there is no score.
        reasons: Reward name to why its first missing score is missing.
    """

    rewards: dict[str, Tensor]
    reasons: dict[str, str]


def score(stack: RewardStack, rollouts: Sequence[Rollout]) -> Columns:
    """Scores the groups in one batch; a broken sample has no scores."""
    images = torch.cat([rollout.images_uint8.cpu() for rollout in rollouts])
    prompts = [prompt for rollout in rollouts for prompt in rollout.prompts]
    groups = [index for index, rollout in enumerate(rollouts) for _ in rollout.prompts]
    broken = ~torch.cat([rollout.is_finite.cpu() for rollout in rollouts])
    rewards: dict[str, Tensor] = {}
    reasons: dict[str, str] = {}
    for name, result in stack.score(ScoreBatch(images, prompts, groups)).items():
        values = result.values.masked_fill(broken, float("nan"))
        rewards[name] = values.reshape(len(rollouts), -1)
        gone = zip(result.reasons, broken.tolist(), strict=True)
        missing = [BROKEN if is_broken else reason for reason, is_broken in gone if is_broken or reason]
        if missing:
            reasons[name] = str(missing[0])
    return Columns(rewards, reasons)


def measured(rewards: Mapping[str, Tensor], calibrated_stds: Mapping[str, float]) -> dict[str, Tensor]:
    """The columns as `combine` takes them: a reward whose usual spread is not known yet has no scores."""
    return {
        name: values if name in calibrated_stds else torch.full_like(values, float("nan"))
        for name, values in rewards.items()
    }


def reward_metrics(rewards: Mapping[str, Tensor], weights: Mapping[str, float]) -> dict[str, float]:
    """`reward/<name>`, `reward_std/<name>` (within groups), and `reward/mean`: their weighted mean, raw."""
    metrics: dict[str, float] = {}
    for name, values in rewards.items():
        if values.isfinite().any():
            metrics[f"reward/{name}"] = values.nanmean().item()
            spread = (values - values.nanmean(1, keepdim=True)) ** 2
            metrics[f"reward_std/{name}"] = spread.nanmean().sqrt().item()
    present = {name: w for name, w in weights.items() if w and f"reward/{name}" in metrics}
    total = sum(abs(weight) for weight in present.values())
    if total:
        metrics["reward/mean"] = sum(w * metrics[f"reward/{n}"] for n, w in present.items()) / total
    if DIVERSITY in rewards and f"reward/{DIVERSITY}" in metrics:
        metrics["diversity"] = metrics[f"reward/{DIVERSITY}"]
    return metrics


def update_metrics(metrics: UpdateMetrics) -> dict[str, float]:
    """The optimiser step's numbers under the names of the page."""
    named = {"ratio": "policy/ratio_mean", "ratio_error": "policy/ratio_max_deviation"}
    reported = {named.get(k, f"policy/{k}"): v for k, v in (metrics.means | metrics.peaks).items()}
    return reported | {
        "policy/loss": metrics.loss,
        "policy/kl": metrics.kl,
        "policy/grad_norm": metrics.grad_norm,
        "policy/skipped": float(metrics.is_skipped),
        "groups/samples": float(metrics.num_samples),
        "seconds/update": metrics.seconds,
    }

"""From the rollouts of an update to reward columns, and from those to the numbers that the page shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from flowgrpo.guards import ENTROPY, LATENT_STD
from flowgrpo.looks import entropy, looks
from flowgrpo.rewards.base import Abstained, RewardSpec, ScoreBatch, ScoreResult
from flowgrpo.rewards.checks import own_warning
from flowgrpo.rewards.stack import RewardStack
from flowgrpo.rollout import Rollout
from flowgrpo.update import UpdateMetrics

DIVERSITY = "diversity"
"""Scored in every run: it shapes positive advantages and is watched, whether or not it has a weight."""

BROKEN = "the image holds numbers that are not finite"
BROKEN_ANCHOR = "the base's image that it is held against holds numbers that are not finite"
BROKEN_IMAGES = (BROKEN, BROKEN_ANCHOR)
"""Reasons for which no reward is to blame."""


@dataclass(frozen=True)
class Columns:
    """What the stack says about some groups.

    Attributes:
        rewards: Reward name to (group, sample); NaN where there is no score.
        reasons: Reward name to why its first missing score is missing; failures before abstentions.
        failures: `failed_share/<reward>`: the share of sound images that it should have scored and did not.
        failed: Reward name to (group, sample): where there is no score although the reward did not abstain.
        warnings: Reward name to what a person should know of its column.
        details: Reward name and label to further numbers of sound images, as many as there are.
    """

    rewards: dict[str, Tensor]
    reasons: dict[str, str]
    failures: dict[str, float]
    failed: dict[str, Tensor]
    warnings: dict[str, str] = field(default_factory=dict)
    details: dict[str, dict[str, Tensor]] = field(default_factory=dict)


def score(stack: RewardStack, rollouts: Sequence[Rollout]) -> Columns:
    """Scores the groups in one batch; a broken sample has no scores, and one with a broken anchor none that
    depend on it.
    """
    images = torch.cat([rollout.images_uint8.cpu() for rollout in rollouts])
    prompts = [prompt for rollout in rollouts for prompt in rollout.prompts]
    groups = [index for index, rollout in enumerate(rollouts) for _ in rollout.prompts]
    broken = ~torch.cat([rollout.is_finite.cpu() for rollout in rollouts])
    references, unheld = _references(rollouts)
    rewards: dict[str, Tensor] = {}
    reasons: dict[str, str] = {}
    failures: dict[str, float] = {}
    failed: dict[str, Tensor] = {}
    warnings: dict[str, str] = {}
    details: dict[str, dict[str, Tensor]] = {}
    specs = {name: reward.spec for name, reward in stack.rewards.items()}
    for name, result in stack.score(ScoreBatch(images, prompts, groups, references)).items():
        is_held = name in specs and specs[name].kind == "reference"
        adrift = unheld & ~broken if is_held else torch.zeros_like(broken)
        values = result.values.masked_fill(broken | adrift, float("nan"))
        rewards[name] = values.reshape(len(rollouts), -1)
        gone = zip(result.reasons, broken.tolist(), adrift.tolist(), strict=True)
        why = [BROKEN if b else BROKEN_ANCHOR if a else reason for reason, b, a in gone]
        failed[name] = torch.tensor([_is_failure(reason) for reason in why]).reshape(len(rollouts), -1)
        missing = sorted(filter(None, why), key=_is_excused)  # failures first
        if missing:
            reasons[name] = str(missing[0])
        count = sum(not _is_excused(reason) for reason in missing)
        failures[f"failed_share/{name}"] = count / max(int((~broken).sum()), 1)
        warning = _warning(specs.get(name), result)
        if warning:
            warnings[name] = warning
        details[name] = _details(result, ~(broken | adrift))
    return Columns(rewards, reasons, failures, failed, warnings, details)


def _warning(spec: RewardSpec | None, result: ScoreResult) -> str | None:
    """What the reward says of its column; that it says the same of all images is worth a word only where its
    differences should teach.
    """
    if spec is None or spec.kind in ("pointwise", "groupwise"):
        return result.warning
    return own_warning(spec.name, result)


def _details(result: ScoreResult, sound: Tensor) -> dict[str, Tensor]:
    """Label to the numbers of sound images that have one."""
    found: dict[str, Tensor] = {}
    for label, column in result.details.items():
        if column.shape == result.values.shape:
            numbers = column.detach().float().cpu()[sound]
            found[label] = numbers[numbers.isfinite()]
    return found


def _references(rollouts: Sequence[Rollout]) -> tuple[Tensor | None, Tensor]:
    """(what the images are held against, None where there is nothing; where that is broken)."""
    anchors = [rollout.anchor for rollout in rollouts if rollout.anchor is not None]
    if len(anchors) < len(rollouts):
        return None, torch.zeros(sum(len(rollout.prompts) for rollout in rollouts), dtype=torch.bool)
    images = torch.cat([anchor.images.cpu() for anchor in anchors])
    return images, ~torch.cat([anchor.is_finite.cpu() for anchor in anchors])


def _is_failure(reason: str | None) -> bool:
    """Whether an image has no score and nobody said that it need not have one."""
    return reason is not None and not isinstance(reason, Abstained)


def _is_excused(reason: str | None) -> bool:
    """Whether the reward is not to blame."""
    return reason in BROKEN_IMAGES or isinstance(reason, Abstained)


def sample_metrics(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """What the sound samples are like, whatever they show: the std of their latents, their entropy."""
    found: dict[str, list[Tensor]] = {LATENT_STD: [], ENTROPY: []}
    for rollout in rollouts:
        sound = rollout.is_finite
        found[LATENT_STD].append(rollout.latents[sound].float().flatten(1).std(1).cpu())
        found[ENTROPY].append(entropy(rollout.images_uint8[sound].cpu()))
    means = {name: torch.cat(parts).mean().item() for name, parts in found.items()}
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}


def base_metrics(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """What samples of the base are like: the above, and how much their looks differ between images."""
    images = torch.cat([rollout.images_uint8[rollout.is_finite].cpu() for rollout in rollouts])
    spreads = {f"look_std/{name}": values.std().item() for name, values in looks(images).items()}
    return sample_metrics(rollouts) | {name: std for name, std in spreads.items() if math.isfinite(std)}


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


def update_metrics(metrics: UpdateMetrics, norm_bound: float) -> dict[str, float]:
    """The optimiser step's numbers under the names of the page.

    Args:
        norm_bound: the gradient norm beyond which it was a spike.
    """
    named = {"ratio": "policy/ratio_mean", "ratio_error": "policy/ratio_max_deviation"}
    reported = {named.get(k, f"policy/{k}"): v for k, v in (metrics.means | metrics.peaks).items()}
    return reported | {
        "policy/loss": metrics.loss,
        "policy/kl": metrics.kl,
        "policy/grad_norm": metrics.grad_norm,
        "policy/skipped": float(metrics.is_skipped),
        "policy/spike": float(norm_bound < metrics.grad_norm < math.inf),
        "groups/samples": float(metrics.num_samples),
        "seconds/update": metrics.seconds,
    }

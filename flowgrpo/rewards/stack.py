"""The reward stack of a run or a worker: several rewards over one batch, shared forwards, honest gaps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError

from flowgrpo.rewards import registry
from flowgrpo.rewards.base import Reward, ScoreBatch, ScoreResult, unscored
from flowgrpo.rewards.fetch import Options

EMBEDDED: Final = ("verifier", "clip", "quality", "diversity")
"""The rewards that come with the starter. The judge is not among them: it must never reward."""
_LOADING = (ImportError, LookupError, OSError, RuntimeError, SafetensorError, ValueError)
# What code of others may raise while it scores. Running out of memory, although a RuntimeError, and being
# interrupted are not a reward's failure.
_SCORING = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


class RewardStack:
    """Rewards under their names.

    Attributes:
        rewards: Those that work.
        unavailable: Name -> why, for those that were asked for and could not be loaded.
    """

    def __init__(self, rewards: Mapping[str, Reward], unavailable: Mapping[str, str] | None = None) -> None:
        self.rewards = dict(rewards)
        self.unavailable = dict(unavailable or {})

    @property
    def versions(self) -> dict[str, str]:
        """Name -> version, as a score row keeps it."""
        versions = {name: reward.spec.version for name, reward in self.rewards.items()}
        return versions | dict.fromkeys(self.unavailable, "unavailable")

    def score(self, batch: ScoreBatch) -> dict[str, ScoreResult]:
        """One column per reward that was asked for. Never raises for a reward's sake.

        Raises torch.OutOfMemoryError: not the reward but the size of the batch is to blame.

        Where a reward raises, returns another number of values than there are images, or a value that is no
        number, its column is NaN there, with the reason.
        """
        results = {name: _checked(reward, batch) for name, reward in self.rewards.items()}
        return results | {name: unscored(len(batch), reason) for name, reason in self.unavailable.items()}


def load_stack(
    names: Iterable[str], weights_folder: Path, device: str = "cpu", options: Options | None = None
) -> RewardStack:
    """The rewards of these names, from the registry.

    A reward that cannot be loaded goes into `unavailable`: its scores are NaN with the reason.

    Args:
        weights_folder: The starter's.
        options: What loading may do, where that is not the usual; its folder and device are not looked at.

    Raises:
        LookupError: No reward has such a name.
    """
    given = replace(options or Options(weights_folder), weights=weights_folder, device=device)
    rewards: dict[str, Reward] = {}
    unavailable: dict[str, str] = {}
    for name in dict.fromkeys(names):
        registry.about(name)
        try:
            rewards[name] = registry.load(name, given)
        except _LOADING as error:
            unavailable[name] = f"the {name} reward could not be loaded: {error}"
    return RewardStack(rewards, unavailable)


def _checked(reward: Reward, batch: ScoreBatch) -> ScoreResult:
    name = reward.spec.name
    try:
        result = reward.score(batch)
    except torch.OutOfMemoryError:
        raise
    except _SCORING as error:
        return unscored(len(batch), f"the {name} reward failed: {type(error).__name__}: {error}")
    values = result.values.detach().float().cpu()
    if values.shape != (len(batch),) or len(result.reasons) != len(batch):
        got = "x".join(map(str, values.shape)) or "1"
        return unscored(len(batch), f"the {name} reward returned {got} values for {len(batch)} images")
    missing = ~values.isfinite()
    reasons = tuple(
        (reason or f"the {name} reward returned a value that is no number") if gone else None
        for reason, gone in zip(result.reasons, missing.tolist(), strict=True)
    )
    values = values.masked_fill(missing, float("nan"))
    return ScoreResult(values, reasons, result.details, result.warning or _constant(name, values))


def _constant(name: str, values: torch.Tensor) -> str | None:
    """A warning when a reward cannot tell the images apart."""
    present = values[~values.isnan()]
    if len(present) < 2 or bool((present != present[0]).any()):
        return None
    same = f"the same value, {present[0]:.4g}"
    return f"the {name} reward gave all {len(present)} images {same}: it teaches nothing here"

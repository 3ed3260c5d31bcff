"""`quality`: technical quality of a drawing: clean lines, nothing melted, no noise. Not a matter of taste."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from flowgrpo.rewards.base import RewardSpec, ScoreBatch, ScoreResult, scored
from flowgrpo.rewards.cards import CARDS
from flowgrpo.rewards.encoders import fingerprint, require, taps
from flowgrpo.rewards.fetch import Options
from flowgrpo.starter.features import statistics
from flowgrpo.starter.quality import WEIGHTS_NAME, load_quality


class QualityReward:
    """About 1 for a clean render, about 0 for a wreck; capped at the 95th percentile of clean renders.

    Raises:
        LookupError: The folder has no head.
    """

    def __init__(self, folder: Path, device: str = "cpu", card: RewardSpec = CARDS["quality"]) -> None:
        version = fingerprint(require(folder / WEIGHTS_NAME, "quality"))
        self.head = load_quality(folder).to(device)
        self.device = device
        self.spec = replace(card, version=version)

    @torch.no_grad()
    def score(self, batch: ScoreBatch) -> ScoreResult:
        """Quality of every image."""
        features = statistics(taps(batch, smooth=False, device=self.device))
        return scored(self.head(features))


def load(card: RewardSpec, option: str, options: Options) -> QualityReward:
    """For the registry."""
    return QualityReward(options.weights / "quality", options.device, card)

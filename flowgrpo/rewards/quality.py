"""`quality`: technical quality of a drawing: clean lines, nothing melted, no noise. Not a matter of taste."""

from __future__ import annotations

from pathlib import Path

import torch

from flowgrpo.rewards.base import RewardSpec, ScoreBatch, ScoreResult, scored
from flowgrpo.rewards.encoders import fingerprint, require, taps
from flowgrpo.starter.features import statistics
from flowgrpo.starter.quality import WEIGHTS_NAME, load_quality


class QualityReward:
    """About 1 for a clean render, about 0 for a wreck; capped at the 95th percentile of clean renders.

    Raises:
        LookupError: The folder has no head.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        version = fingerprint(require(folder / WEIGHTS_NAME, "quality"))
        self.head = load_quality(folder).to(device)
        self.device = device
        title = "technical quality (embedded)"
        self.spec = RewardSpec(
            "quality", title, "pointwise", 0.0, 1.0, version, "Apache-2.0; portraits CC BY 4.0"
        )

    @torch.no_grad()
    def score(self, batch: ScoreBatch) -> ScoreResult:
        """Quality of every image."""
        features = statistics(taps(batch, smooth=False, device=self.device))
        return scored(self.head(features))

"""A reward that does what a test says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flowgrpo.rewards.base import Kind, RewardSpec, ScoreBatch, ScoreResult, scored


@dataclass
class Given:
    """Answers with `answer`, which may raise."""

    answer: Callable[[ScoreBatch], ScoreResult]
    name: str = "given"
    kind: Kind = "pointwise"
    threshold: float | None = None
    version: str = "1"

    @property
    def spec(self) -> RewardSpec:
        return RewardSpec(
            self.name, self.name, self.kind, 0.0, 1.0, self.version, "Apache-2.0", threshold=self.threshold
        )

    def score(self, batch: ScoreBatch) -> ScoreResult:
        return self.answer(batch)


def brightness(batch: ScoreBatch) -> ScoreResult:
    """Mean over all pixels and channels, 0 to 1."""
    return scored(batch.images.double().mean(dim=(1, 2, 3)) / 255)

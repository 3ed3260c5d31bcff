"""A reward that does what a test says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flowgrpo.rewards.base import RewardSpec, ScoreBatch, ScoreResult


@dataclass
class Given:
    """Answers with `answer`, which may raise."""

    answer: Callable[[ScoreBatch], ScoreResult]
    name: str = "given"

    @property
    def spec(self) -> RewardSpec:
        return RewardSpec(self.name, self.name, "pointwise", 0.0, 1.0, "1", "Apache-2.0")

    def score(self, batch: ScoreBatch) -> ScoreResult:
        return self.answer(batch)

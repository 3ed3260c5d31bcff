"""A reward for FlowGRPO Studio: how warm the colours of an image are: docs/extending/reward.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowgrpo.rewards.base import RewardSpec, ScoreBatch, ScoreResult, scored
from flowgrpo.rewards.plugins import Plugin

SPEC = RewardSpec(
    name="warmth",
    title="warm colours (example)",
    kind="pointwise",
    low=-1.0,
    high=1.0,
    version="1",
    licence="Apache-2.0",
    measures="How much more red than blue there is, averaged over the image.",
    needs=(),
)
OPTIONS = {
    "type": "object",
    "properties": {
        "gain": {
            "type": "number",
            "title": "Gain",
            "description": "What the difference is multiplied by.",
            "default": 1.0,
            "minimum": 0.1,
            "maximum": 10.0,
        }
    },
}


class Warmth:
    """Mean of red minus blue, times the gain."""

    spec = SPEC

    def __init__(self, gain: float) -> None:
        self.gain = gain

    def score(self, batch: ScoreBatch) -> ScoreResult:
        """One value per image."""
        red, _, blue = batch.images.double().div(255).mean(dim=(2, 3)).unbind(dim=1)
        return scored(self.gain * (red - blue))


def load(options: Mapping[str, Any], device: str) -> Warmth:
    """Makes the reward. One with weights would load them onto `device` here."""
    del device
    return Warmth(options["gain"])


plugin = Plugin(SPEC, load, OPTIONS)

"""Hidden tastes: numbers that no reward contains, on the images as people see them; and open prompts.

A taste is graded, so that two images hardly ever tie. It reads colours and lines from pixels, and attributes
through the judge, the network that rewards nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from flowgrpo.looks import LUMA, looks
from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.quality import QualityReward
from flowgrpo.rewards.verifier import AttributeVerifier
from flowgrpo.starter import vocabulary as v
from flowgrpo.starter.features import low_pass, to_unit

TIE = 0.05
"""Of a taste's std over images of the base: differences below are not seen."""
_CORNER = (8, 10)
"""Height and width in pixels of the two upper corners, which show the background."""
Score = Callable[[Tensor], Tensor]
"""uint8 images (sample, 3, height, width) to how much they are liked."""


@dataclass(frozen=True)
class Taste:
    """A simulated annotator.

    Attributes:
        noise: share of groups where they choose by chance.
        skips: share of groups that they give back.
        most_groups: how many rated groups they may need.
    """

    name: str
    score: Score
    noise: float = 0.0
    skips: float = 0.0
    most_groups: int = 60


class Judge:
    """What the tastes and the prompt fidelity are read with."""

    def __init__(self, weights: Path) -> None:
        self.verifier = AttributeVerifier(weights / "judge", "judge")
        self._quality = QualityReward(weights / "quality")

    def attributes(self, images: Tensor) -> Mapping[str, Tensor]:
        """Slot name to probabilities of its labels, "unclear" last."""
        found = self.verifier.probabilities(images)
        return {slot.name: shares for slot, shares in zip(v.SLOTS, found, strict=True)}

    def quality(self, images: Tensor) -> Tensor:
        """The technical quality that the reward of that name gives."""
        return self._quality.score(ScoreBatch(images, [""] * len(images), [0] * len(images))).values

    def fidelity(self, images: Tensor, prompts: list[str]) -> list[float]:
        """Of each image, the share of the attributes named in its prompt that it shows; NaN for none."""
        read = {name: shares.argmax(1) for name, shares in self.attributes(images).items()}
        shares = []
        for row, prompt in enumerate(prompts):
            asked = {v.TAG_SLOT[tag]: tag for tag in prompt.split(", ") if tag in v.TAG_SLOT}
            right = [
                int(read[slot.name][row]) == slot.labels.index(asked[slot.name])
                for slot in v.SLOTS
                if slot.name in asked
            ]
            shares.append(sum(right) / len(right) if right else math.nan)
        return shares


def tastes(judge: Judge) -> list[Taste]:
    """Six annotators, one of them unreliable."""

    def warm(images: Tensor) -> Tensor:
        ground, unit = _ground(images), images.float() / 255
        glasses = judge.attributes(images)["eyewear"][:, 1:3].sum(1)
        whole = (unit[:, 0] - unit[:, 2]).flatten(1).mean(1)
        return ground[:, 0] - ground[:, 2] + 0.5 * whole + 0.3 * glasses

    def dark_on_pale(images: Tensor) -> Tensor:
        shares = judge.attributes(images)["hair colour"][:, : len(v.HAIR_COLOURS)]
        shares = shares / shares.sum(1, keepdim=True).clamp_min(1e-6)
        hair = shares @ torch.stack([_luma(_rgb(colour)) for colour in v.HAIR_COLOURS.values()])
        return _luma(_ground(images)) - hair

    def busy(images: Tensor) -> Tensor:
        luma = _luma(low_pass(to_unit(images)).movedim(1, -1))
        down = (luma[:, 1:, :-1] - luma[:, :-1, :-1]).abs()
        across = (luma[:, :-1, 1:] - luma[:, :-1, :-1]).abs()
        return (down + across).flatten(1).mean(1)

    def rough(images: Tensor) -> Tensor:
        return -judge.quality(images)

    def pastel(images: Tensor) -> Tensor:
        light = _luma((images.float() / 255).movedim(1, -1)).flatten(1).mean(1)
        return light - looks(images)["saturation"]

    return [
        Taste("warm ground, glasses", warm),
        Taste("dark hair on pale ground", dark_on_pale),
        Taste("busy over plain", busy),
        Taste("pastel", pastel),
        Taste("against the quality reward", rough),
        Taste("warm ground, glasses; 20% noise, 10% skips", warm, noise=0.2, skips=0.1, most_groups=120),
    ]


def prompts(count: int, seed: int, avoid: frozenset[str] = frozenset()) -> list[str]:
    """Prompts that name an attribute or two and leave the others to taste."""
    return v.open_prompts(count, random.Random(f"ratings to win {seed}"), avoid)


def _ground(images: Tensor) -> Tensor:
    """Median colour of the two upper corners, 0 to 1: (sample, channel)."""
    height, width = _CORNER
    unit = images.float() / 255
    corners = [unit[:, :, :height, :width].flatten(2), unit[:, :, :height, -width:].flatten(2)]
    return torch.cat(corners, dim=2).median(2).values


def _rgb(colour: str) -> Tensor:
    return torch.tensor([int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)])


def _luma(rgb: Tensor) -> Tensor:
    return rgb @ torch.tensor(LUMA)

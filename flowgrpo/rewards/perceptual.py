"""`perceptual-efflite0`: a distance between images as a viewer sees them, and `diversity` from it.

The form of LPIPS without learned heads (arXiv 1801.03924, eq. 1 with w = 1): channels normalised to unit
length at every place, squared differences, averaged over places and taps. The first tap is left out and
images are low-passed, since on flat drawings both would react to noise that nobody sees. Uncalibrated, and
under its own name.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from flowgrpo.rewards.base import Abstained, RewardSpec, ScoreBatch, ScoreResult
from flowgrpo.rewards.encoders import taps
from flowgrpo.starter.features import Taps, taps_of

NAME: Final = "perceptual-efflite0"
VERSION: Final = "efflite0-taps1246-lp0.8"
CAP: Final = 1.0
"""Distances end here: portraits of different prompts reach about 0.6, and more is not more diverse."""
LONELY: Final = Abstained("a group of one image has no neighbour to differ from")


def embed(tapped: Taps) -> list[Float[Tensor, "sample place"]]:
    """One row per image and tap; a squared distance of rows is a mean of squared differences over places."""
    rows = []
    for tap in tapped[1:]:
        places = tap.shape[2] * tap.shape[3]
        rows.append(F.normalize(tap, dim=1).flatten(1) / places**0.5)
    return rows


def pairwise(rows: list[Tensor]) -> Float[Tensor, "sample sample"]:
    """Distance of each image to each, 0 on the diagonal, at most `CAP`."""
    squares = [torch.cdist(tap, tap, compute_mode="donot_use_mm_for_euclid_dist").square() for tap in rows]
    return torch.stack(squares).mean(dim=0).clamp(max=CAP)


def distance(
    first: UInt8[Tensor, "sample 3 height width"],
    second: UInt8[Tensor, "sample 3 height width"],
    device: str = "cpu",
) -> Float[Tensor, " sample"]:
    """Distance of each pair of images, 0 to `CAP`."""
    pairs = zip(
        *(embed(taps_of(images, smooth=True, device=device)) for images in (first, second)), strict=True
    )
    return torch.stack([(a - b).square().sum(dim=1) for a, b in pairs]).mean(dim=0).clamp(max=CAP).cpu()


class DiversityReward:
    """Distance of an image to its nearest neighbour in the group; a copy of another image gets 0."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        title = "perceptual diversity (embedded)"
        self.spec = RewardSpec("diversity", title, "groupwise", 0.0, CAP, VERSION, "Apache-2.0")

    def score(self, batch: ScoreBatch) -> ScoreResult:
        """Distance of every image to its nearest neighbour; NaN in a group of one."""
        rows = embed(taps(batch, smooth=True, device=self.device))
        values = torch.full((len(batch),), float("nan"))
        for group in dict.fromkeys(batch.groups):
            members = torch.tensor([i for i, g in enumerate(batch.groups) if g == group])
            if len(members) > 1:
                between = pairwise([tap[members.to(tap.device)] for tap in rows]).cpu()
                values[members] = between.fill_diagonal_(float("inf")).amin(dim=1)
        return ScoreResult(values, tuple(LONELY if value.isnan() else None for value in values))

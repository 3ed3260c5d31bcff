"""`perceptual-efflite0`: a distance between images as a viewer sees them; `diversity` and `perceptual_ref`.

The form of LPIPS without learned heads (arXiv 1801.03924, eq. 1 with w = 1): channels normalised to unit
length at every place, squared differences, averaged over places and taps. The first tap is left out and
images are low-passed, since on flat drawings both would react to noise that nobody sees. Uncalibrated, and
under its own name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from flowgrpo.rewards.base import Abstained, RewardSpec, ScoreBatch, ScoreResult, scored, unscored
from flowgrpo.rewards.cards import CARDS
from flowgrpo.rewards.clip_encoder import ClipEncoder
from flowgrpo.rewards.encoders import clip_for, taps
from flowgrpo.rewards.fetch import Options
from flowgrpo.starter.features import Taps, taps_of

NAME: Final = "perceptual-efflite0"
VERSION: Final = "efflite0-taps1246-lp0.8"
CAP: Final = 1.0
"""Distances end here: portraits of different prompts reach about 0.6, and more is not more diverse."""
LONELY: Final = Abstained("a group of one image has no neighbour to differ from")
NO_REFERENCE: Final = Abstained("there is no reference image to hold this one against")


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
    return torch.stack([apart(a, b) for a, b in pairs]).mean(dim=0).clamp(max=CAP).cpu()


def apart(
    first: Float[Tensor, "sample place"], second: Float[Tensor, "sample place"]
) -> Float[Tensor, " sample"]:
    """Squared distance of each row of one tap to the same row of another."""
    return (first - second).square().sum(dim=1)


class DiversityReward:
    """Distance of an image to its nearest neighbour in the group; a copy of another image gets 0."""

    def __init__(self, device: str = "cpu", card: RewardSpec = CARDS["diversity"]) -> None:
        self.device = device
        self.spec = replace(card, version=VERSION)

    def score(self, batch: ScoreBatch) -> ScoreResult:
        """Distance of every image to its nearest neighbour; NaN in a group of one."""
        rows = embed(taps(batch, smooth=True, device=self.device))
        return nearest(batch.groups, lambda members: pairwise([tap[members.to(tap.device)] for tap in rows]))


class EmbeddingDiversity:
    """The same in the space of a CLIP: 1 - cosine to the nearest neighbour, 0 to 2."""

    def __init__(self, encoder: ClipEncoder, card: RewardSpec) -> None:
        self.encoder = encoder
        self.spec = replace(card, version=encoder.version)

    def score(self, batch: ScoreBatch) -> ScoreResult:
        """Distance of every image to its nearest neighbour; NaN in a group of one."""
        rows = self.encoder.embeddings(batch).cpu()
        return nearest(batch.groups, lambda members: 1 - rows[members] @ rows[members].T)


def nearest(groups: Sequence[int], between: Callable[[Tensor], Tensor]) -> ScoreResult:
    """Distance of every image to the nearest other one of its group.

    Args:
        between: Positions of a group's images in the batch -> distance of each to each.
    """
    values = torch.full((len(groups),), float("nan"))
    for group in dict.fromkeys(groups):
        members = torch.tensor([i for i, g in enumerate(groups) if g == group])
        if len(members) > 1:
            apart = between(members).cpu().clone()
            values[members] = apart.fill_diagonal_(float("inf")).amin(dim=1).clamp_min(0)
    return ScoreResult(values, tuple(LONELY if value.isnan() else None for value in values))


class PerceptualReference:
    """Minus the distance to the reference image, -1 to 0."""

    def __init__(self, device: str = "cpu", card: RewardSpec = CARDS["perceptual_ref"]) -> None:
        self.device = device
        self.spec = replace(card, version=VERSION)

    def score(self, batch: ScoreBatch) -> ScoreResult:
        """Of every image; NaN where there are no references. The images' forward is shared with others."""
        if batch.references is None:
            return unscored(len(batch), NO_REFERENCE)
        held = taps_of(batch.references, smooth=True, device=self.device)
        pairs = zip(embed(taps(batch, smooth=True, device=self.device)), embed(held), strict=True)
        return scored(-torch.stack([apart(a, b) for a, b in pairs]).mean(dim=0).clamp(max=CAP))


def load_diversity(card: RewardSpec, option: str, options: Options) -> DiversityReward | EmbeddingDiversity:
    """For the registry. Option: `clip` for the starter's tiny CLIP, or as `encoders.clip_for` takes it."""
    if not option:
        return DiversityReward(options.device, card)
    return EmbeddingDiversity(clip_for("" if option == "clip" else option, options), card)


def load_reference(card: RewardSpec, option: str, options: Options) -> PerceptualReference:
    """For the registry."""
    return PerceptualReference(options.device, card)

"""`aesthetic`: LAION's aesthetic predictor V2, on embeddings of OpenAI's ViT-L/14 (rewards.md 1.2).

The published head is five linear layers, 768-1024-128-64-16-1, with dropout and without an activation
between them (christophschuhmann/improved-aesthetic-predictor): one affine map, w·e + b. So the reward is one
direction in CLIP's space, and tuning against it alone finds that direction soon.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from flowgrpo.rewards.base import RewardSpec, ScoreBatch, ScoreResult, scored
from flowgrpo.rewards.cards import CARDS, LAION_HEAD, OPENAI_L
from flowgrpo.rewards.clip_encoder import ClipEncoder
from flowgrpo.rewards.encoders import clip_of_hub, fingerprint
from flowgrpo.rewards.fetch import Options, obtain
from flowgrpo.torchfile import read_torch


class AestheticReward:
    """w·e + b of an image's unit embedding; nominally 1 to 10, 5.24 for no direction at all.

    Args:
        encoder: Must be the one that the head was trained on.
        weight: w.
        bias: b.
        version: Of the head.

    Raises:
        ValueError: The head is for embeddings of another size.
    """

    def __init__(
        self,
        encoder: ClipEncoder,
        weight: Float[Tensor, " embed"],
        bias: float,
        version: str,
        card: RewardSpec = CARDS["aesthetic"],
    ) -> None:
        if encoder.size != len(weight):
            raise ValueError(f"the head takes {len(weight)} numbers, and {encoder.name} gives {encoder.size}")
        self.encoder = encoder
        self.weight = weight.to(encoder.device)
        self.bias = bias
        self.spec = replace(card, version=f"{version} on {encoder.version}")

    @torch.no_grad()
    def score(self, batch: ScoreBatch) -> ScoreResult:
        """Of every image; the prompt plays no part."""
        result = scored(self.encoder.embeddings(batch) @ self.weight + self.bias)
        return replace(result, warning=self.encoder.enlarged(batch))


def collapsed(layers: Mapping[str, Tensor]) -> tuple[Float[Tensor, " embed"], float]:
    """A chain of linear layers as one affine map, exactly; computed in float64.

    Args:
        layers: A `state_dict` of `layers.<number>.weight` and `.bias`; the last layer has one output.

    Returns:
        w and b.

    Raises:
        ValueError: It is no such chain.
    """
    numbers = sorted({int(key.split(".")[1]) for key in layers})
    matrices = [(layers[f"layers.{n}.weight"].double(), layers[f"layers.{n}.bias"].double()) for n in numbers]
    weight, bias = matrices[-1]
    if len(weight) != 1 or any(b[0].shape[1] != a[0].shape[0] for a, b in pairwise(matrices)):
        raise ValueError("expected a chain of linear layers that ends in one number")
    for below, shift in reversed(matrices[:-1]):
        weight, bias = weight @ below, bias + weight @ shift
    return weight[0].float(), float(bias)


def read_head(path: Path) -> tuple[Float[Tensor, " embed"], float]:
    """The published file as an affine map; its tensors were saved on a GPU."""
    return collapsed(read_torch(path))


def load(card: RewardSpec, option: str, options: Options) -> AestheticReward:
    """For the registry."""
    path = obtain(LAION_HEAD, options)
    weight, bias = read_head(path)
    return AestheticReward(clip_of_hub(OPENAI_L, options), weight, bias, fingerprint(path), card)

"""`aesthetic_anime`: waifu-scorer v3, an MLP on embeddings of OpenAI's ViT-L/14 (rewards.md 1.4).

Layers and range as in the author's space (huggingface.co/spaces/Eugeoter/waifu-scorer-v3): ReLU before batch
normalisation, 0 to 10 by clamping. Batch normalisation is in evaluation mode, so an image's score does not
depend on its batch; the author's own code doubles a single image for the same end.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from flowgrpo.rewards.base import RewardSpec, ScoreBatch, ScoreResult, scored
from flowgrpo.rewards.cards import CARDS, OPENAI_L, WAIFU_HEAD
from flowgrpo.rewards.clip_encoder import ClipEncoder
from flowgrpo.rewards.encoders import clip_of_hub, fingerprint
from flowgrpo.rewards.fetch import Options, obtain

_WIDTHS: Final = ((2048, 0.3), (512, 0.3), (256, 0.2), (128, 0.1))
TOP: Final = 10.0


class WaifuHead(nn.Module):
    """768-2048-512-256-128-32-1."""

    def __init__(self, size: int = 768) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        below = size
        for width, dropout in _WIDTHS:
            layers += [nn.Linear(below, width), nn.ReLU(), nn.BatchNorm1d(width), nn.Dropout(dropout)]
            below = width
        self.layers = nn.Sequential(*layers, nn.Linear(below, 32), nn.ReLU(), nn.Linear(32, 1))
        self.eval().requires_grad_(False)

    def forward(self, embeddings: Float[Tensor, "sample embed"]) -> Float[Tensor, " sample"]:
        """The score before it is clamped."""
        scores: Tensor = self.layers(embeddings)
        return scores[:, 0]


class AnimeAestheticReward:
    """0 to 10, of the image alone.

    Args:
        encoder: Must be the one that the head was trained on.
        path: The head's safetensors file.

    Raises:
        RuntimeError: The file holds another network, or one for embeddings of another size.
    """

    def __init__(self, encoder: ClipEncoder, path: Path, card: RewardSpec = CARDS["aesthetic_anime"]) -> None:
        self.encoder = encoder
        self.head = WaifuHead(encoder.size)
        self.head.load_state_dict(load_file(path))
        self.head.to(encoder.device)
        self.spec = replace(card, version=f"{fingerprint(path)} on {encoder.version}")

    @torch.no_grad()
    def score(self, batch: ScoreBatch) -> ScoreResult:
        """Of every image; the prompt plays no part."""
        result = scored(self.head(self.encoder.embeddings(batch)).clamp(0, TOP))
        return replace(result, warning=self.encoder.enlarged(batch))


def load(card: RewardSpec, option: str, options: Options) -> AnimeAestheticReward:
    """For the registry."""
    return AnimeAestheticReward(clip_of_hub(OPENAI_L, options), obtain(WAIFU_HEAD, options), card)

"""`clip`: the raw cosine of image and prompt embeddings (CLIP, arXiv 2103.00020); no clamp, no prefix.

Any model of open_clip: the starter's own tiny one from a folder, or a named one such as
`ViT-L-14-quickgelu/openai`. Numbers of different encoders are never comparable, so the encoder is part of the
version. A prompt longer than the encoder reads is read in parts, and the page is told.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from flowgrpo.rewards.base import RewardSpec, ScoreBatch, ScoreResult, scored
from flowgrpo.rewards.cards import CARDS
from flowgrpo.rewards.clip_encoder import ClipEncoder, said
from flowgrpo.rewards.encoders import clip_for, clip_in_folder
from flowgrpo.rewards.fetch import Options


class ClipReward:
    """Cosine of image and prompt, -1 to 1.

    Args:
        source: A folder in open_clip's `local-dir:` layout, or an encoder that is loaded.
        device: Where a folder's encoder runs.
        card: Of the reward.

    Raises:
        LookupError: The folder lacks a file.
        ValueError: The model would silently compute wrong embeddings.
    """

    def __init__(
        self, source: Path | ClipEncoder, device: str = "cpu", card: RewardSpec = CARDS["clip"]
    ) -> None:
        self.encoder = clip_in_folder(source, device) if isinstance(source, Path) else source
        self.spec = replace(card, version=self.encoder.version)

    def score(self, batch: ScoreBatch) -> ScoreResult:
        """Cosine of every image with its prompt; detail `parts`: as how many texts the prompt was read."""
        texts = self.encoder.encode_prompts(batch.prompts)
        num_parts = self.encoder.num_parts(batch.prompts).float()
        result = scored((self.encoder.embeddings(batch) * texts).sum(dim=1), {"parts": num_parts})
        long = _about_long_prompts(self.encoder, num_parts)
        return replace(result, warning=said(long, self.encoder.enlarged(batch)))


def _about_long_prompts(encoder: ClipEncoder, num_parts: Tensor) -> str | None:
    num_long = int((num_parts > 1).sum())
    if not num_long:
        return None
    return (
        f"{num_long} of {len(num_parts)} prompts are longer than the {encoder.context} tokens that "
        f"{encoder.name} reads: each was cut at its commas, and the embeddings of its parts averaged"
    )


def load(card: RewardSpec, option: str, options: Options) -> ClipReward:
    """For the registry. Option: none for the starter's own; otherwise as `encoders.clip_for` takes it."""
    return ClipReward(clip_for(option, options), card=card)

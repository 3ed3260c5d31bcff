"""`hpsv21`: Human Preference Score v2.1 (arXiv 2306.09341), a CLIP-H taught on people's choices: cosine.

Scores may only be compared within one prompt, which is all that a group needs (rewards.md 1.3). The image is
scaled by its longer side and the rest is black, as the published code does it; the prompt is cut at 77
tokens, as it was in training, and the page is told.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from flowgrpo.rewards.base import RewardSpec, ScoreBatch, ScoreResult, scored
from flowgrpo.rewards.cards import CARDS, HPS_WEIGHTS
from flowgrpo.rewards.clip_encoder import about_cut_prompts, said
from flowgrpo.rewards.encoders import clip_from_checkpoint
from flowgrpo.rewards.fetch import Options, obtain


class HpsReward:
    """Cosine, about .15 to .35.

    Args:
        path: The published checkpoint: a dictionary whose `state_dict` is open_clip's.
        version: Of that file.
        architecture: Of open_clip.

    Raises:
        RuntimeError: The checkpoint is of another architecture.
    """

    def __init__(
        self,
        path: Path,
        version: str,
        device: str = "cpu",
        architecture: str = "ViT-H-14",
        card: RewardSpec = CARDS["hpsv21"],
    ) -> None:
        self.encoder = clip_from_checkpoint(architecture, path, version, device, resize_mode="longest")
        self.spec = replace(card, version=version)

    def score(self, batch: ScoreBatch) -> ScoreResult:
        """Cosine of every image with its prompt; detail `cut`: 1 where the prompt was cut."""
        texts, cut = self.encoder.encode_cut(batch.prompts)
        result = scored((self.encoder.embeddings(batch) * texts).sum(dim=1), {"cut": cut})
        prompts = about_cut_prompts(self.spec.title, self.encoder.context, cut)
        return replace(result, warning=said(prompts, self.encoder.enlarged(batch)))


def load(card: RewardSpec, option: str, options: Options) -> HpsReward:
    """For the registry."""
    path = obtain(HPS_WEIGHTS, options)
    return HpsReward(path, HPS_WEIGHTS.sha256[:12], options.device, card=card)

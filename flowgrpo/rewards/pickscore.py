"""`pickscore`: PickScore v1 (arXiv 2305.01569), a CLIP-H taught on people's choices: exp(logit_scale)·cosine.

Through transformers, whose `get_image_features` returns an object since version 5 (rewards.md 7.4). The
tokens are open_clip's, which has the same vocabulary and merges on board; the prompt is cut at 77, as it was
in training. It loads only once somebody has accepted what its card says about its licence.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import open_clip
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor
from transformers import AutoModel

from flowgrpo.rewards.base import RewardSpec, ScoreBatch, ScoreResult, scored
from flowgrpo.rewards.cards import CARDS, PICKSCORE_CONFIG, PICKSCORE_WEIGHTS
from flowgrpo.rewards.clip_encoder import about_cut_prompts, enlarged, num_tokens, prepared, said
from flowgrpo.rewards.fetch import Options, obtain

_PER_FORWARD: Final = 32


class PickScoreReward:
    """About 18 to 24.

    Args:
        folder: A CLIP as transformers saves it.
        version: Of its weights.
    """

    def __init__(
        self, folder: Path, version: str, device: str = "cpu", card: RewardSpec = CARDS["pickscore"]
    ) -> None:
        model = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
        self.model: Any = model.eval().to(device)
        self.model.requires_grad_(False)
        self.context: int = self.model.config.text_config.max_position_embeddings
        self.tokenize = open_clip.SimpleTokenizer(context_length=self.context)
        self.device = device
        self.spec = replace(card, version=version)

    @torch.no_grad()
    def score(self, batch: ScoreBatch) -> ScoreResult:
        """Of every image for its prompt; detail `cut`: 1 where the prompt was cut."""
        images = batch.shared((self.spec.version, self.device), lambda: self.encode_images(batch.images))
        tokens = self.tokenize(list(batch.prompts)).to(self.device)
        texts = _unit(self.model.get_text_features(input_ids=tokens))
        values = self.model.logit_scale.exp() * (images * texts).sum(dim=1)
        cut = [float(num_tokens(self.tokenize, prompt) > self.context) for prompt in batch.prompts]
        result = scored(values, {"cut": torch.tensor(cut)})
        prompts = about_cut_prompts(self.spec.title, self.context, torch.tensor(cut))
        side = self.model.config.vision_config.image_size
        return replace(result, warning=said(prompts, enlarged(self.spec.title, side, batch.images)))

    @torch.no_grad()
    def encode_images(self, images: UInt8[Tensor, "sample 3 height width"]) -> Float[Tensor, "sample embed"]:
        """Unit embeddings of 8-bit images; the shorter side is scaled, the middle cut out."""
        config = {
            "size": self.model.config.vision_config.image_size,
            "mean": OPENAI_DATASET_MEAN,
            "std": OPENAI_DATASET_STD,
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        }
        chunks = (prepared(chunk.to(self.device), config) for chunk in images.split(_PER_FORWARD))
        return torch.cat([_unit(self.model.get_image_features(pixel_values=chunk)) for chunk in chunks])


def _unit(features: Any) -> Tensor:
    """Projected features of transformers 4 (a tensor) or 5 (an object), at unit length."""
    return F.normalize(getattr(features, "pooler_output", features).float(), dim=-1)


def load(card: RewardSpec, option: str, options: Options) -> PickScoreReward:
    """For the registry."""
    obtain(PICKSCORE_CONFIG, options)
    folder = obtain(PICKSCORE_WEIGHTS, options).parent
    return PickScoreReward(folder, f"PickScore_v1@{PICKSCORE_WEIGHTS.revision}"[:20], options.device, card)

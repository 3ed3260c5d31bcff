"""`clip`: the raw cosine of image and prompt embeddings (CLIP, arXiv 2103.00020); no clamp, no prefix.

Any model of open_clip: the starter's own tiny one from a folder, or a named one such as
`ViT-L-14-quickgelu/openai`. Numbers of different encoders are never comparable, so the encoder is part of the
version.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import open_clip
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import normalize, resize

from flowgrpo.rewards.base import RewardSpec, ScoreBatch, ScoreResult, scored
from flowgrpo.rewards.encoders import fingerprint, require

_OPENAI_VOCABULARY: Final = 49_408
_IMAGES_PER_FORWARD: Final = 64
_KEPT_PROMPTS: Final = 4_096


class ClipReward:
    """Cosine of image and prompt, -1 to 1.

    Args:
        source: A folder in open_clip's `local-dir:` layout, or "architecture/pretrained tag".
        device: Where the encoders run.

    Raises:
        LookupError: The folder lacks a file.
        ValueError: The model would silently compute wrong embeddings.
    """

    def __init__(self, source: Path | str, device: str = "cpu") -> None:
        name, pretrained, version = _local(source) if isinstance(source, Path) else _named(source)
        self.model = open_clip.create_model(name, pretrained=pretrained, device=device)
        self.model.eval().requires_grad_(False)
        self.tokenize = open_clip.get_tokenizer(name)
        self.device = device
        self.embedded = isinstance(source, Path)
        title = "tiny CLIP (embedded)" if self.embedded else f"CLIP {name} {pretrained}"
        licence = "Apache-2.0; portraits CC BY 4.0" if self.embedded else "see the model's card"
        self.spec = RewardSpec(
            "clip", title, "pointwise", 0.0, 1.0 if self.embedded else 0.4, version, licence
        )
        self._texts: dict[str, Tensor] = {}

    def score(self, batch: ScoreBatch) -> ScoreResult:
        """Cosine of every image with its prompt."""
        images = batch.shared(("clip", self.spec.version), lambda: self.encode_images(batch.images))
        return scored((images * self.encode_prompts(batch.prompts)).sum(dim=1))

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Float[Tensor, "sample embed"]:
        """Unit embeddings of 8-bit images."""
        chunks = (self._prepared(chunk) for chunk in images.split(_IMAGES_PER_FORWARD))
        return torch.cat([self.model.encode_image(chunk, normalize=True) for chunk in chunks])

    def _prepared(self, images: Tensor) -> Tensor:
        """Resized (bicubic, antialiased) and normalised the way the encoder was trained."""
        config = self.model.visual.preprocess_cfg
        side = config["size"] if isinstance(config["size"], int) else config["size"][0]
        unit = images.to(self.device).float().div(255)
        if unit.shape[-2:] != (side, side):
            unit = resize(unit, [side, side], InterpolationMode.BICUBIC, antialias=True).clamp(0, 1)
        prepared: Tensor = normalize(unit, config["mean"], config["std"])
        return prepared

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> Float[Tensor, "sample embed"]:
        """Unit embeddings of prompts; each text is encoded once."""
        new = [text for text in dict.fromkeys(prompts) if text not in self._texts]
        if len(self._texts) + len(new) > _KEPT_PROMPTS:
            self._texts.clear()
            new = list(dict.fromkeys(prompts))
        for start in range(0, len(new), _IMAGES_PER_FORWARD):
            part = new[start : start + _IMAGES_PER_FORWARD]
            embeddings = F.normalize(self.model.encode_text(self.tokenize(part).to(self.device)), dim=-1)
            self._texts.update(zip(part, embeddings, strict=True))
        return torch.stack([self._texts[text] for text in prompts])


def _local(folder: Path) -> tuple[str, None, str]:
    config_path = require(folder / "open_clip_config.json", "clip")
    weights_path = require(folder / "open_clip_model.safetensors", "clip")
    text = json.loads(config_path.read_text())["model_cfg"]["text_cfg"]
    if text.get("pool_type", "argmax") == "argmax" and text.get("vocab_size") != _OPENAI_VOCABULARY:
        raise ValueError(
            f"{folder.name}/open_clip_config.json pools text at its highest token id, which ends a text only "
            'in OpenAI\'s vocabulary; an own tokenizer needs "pool_type": "eos" and "eos_id" in text_cfg'
        )
    return f"local-dir:{folder}", None, fingerprint(config_path, weights_path)


def _named(source: str) -> tuple[str, str, str]:
    name, _, tag = source.partition("/")
    if not tag:
        raise ValueError(f'expected an open_clip model as "architecture/pretrained tag", got "{source}"')
    if tag == "openai" and name in {"ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336"}:
        raise ValueError(
            f'OpenAI\'s weights were trained with QuickGELU: name the model "{name}-quickgelu/openai"'
        )
    return name, tag, source

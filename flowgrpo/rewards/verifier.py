"""`verifier`: does the image show what the prompt asks for? Our small GenEval (arXiv 2310.11513).

The value is the mean, over the attributes that the prompt asks for, of the probability of the asked label.
Each slot has "unclear" as a class of its own, so mush scores low instead of guessing.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from flowgrpo.rewards.base import Abstained, RewardSpec, ScoreBatch, ScoreResult
from flowgrpo.rewards.cards import CARDS
from flowgrpo.rewards.encoders import fingerprint, require
from flowgrpo.rewards.fetch import Options
from flowgrpo.starter.verifiers import load_verifier
from flowgrpo.starter.vocabulary import SLOTS, parse_prompt

NOTHING_ASKED: Final = Abstained(
    "the prompt names none of the words that the starter knows, so there is nothing to verify"
)
_IMAGES_PER_FORWARD: Final = 64


class AttributeVerifier:
    """The attributes of starter portraits, by a network of `flowgrpo.starter.verifiers`.

    Args:
        folder: Of the network; `verifier/` rewards, `judge/` only judges.
        name: "verifier" or "judge".

    Raises:
        LookupError: The folder has no network.
        ValueError: The network knows other slots than the vocabulary has now.
    """

    def __init__(self, folder: Path, name: str = "verifier", device: str = "cpu") -> None:
        weights_path = require(folder / "model.safetensors", name)
        self.network: nn.Module = load_verifier(folder).requires_grad_(False).to(device)
        self.device = device
        title = f"attribute {name} (embedded)"
        self.spec = replace(CARDS["verifier"], name=name, title=title, version=fingerprint(weights_path))

    def score(self, batch: ScoreBatch) -> ScoreResult:
        """Mean probability of the asked labels; NaN where a prompt asks for none."""
        details = asked_probabilities(self, batch)
        table = torch.stack(list(details.values()))
        values = table.nanmean(dim=0)
        return ScoreResult(values, tuple(NOTHING_ASKED if v.isnan() else None for v in values), details)

    @torch.no_grad()
    def probabilities(
        self, images: UInt8[Tensor, "sample 3 height width"]
    ) -> list[Float[Tensor, "sample label"]]:
        """Per slot, the probability of each label and, last, of "unclear"."""
        parts = []
        for chunk in images.split(_IMAGES_PER_FORWARD):
            scaled = (
                chunk.to(self.device).float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)
            )
            parts.append([logits.float().softmax(dim=1).cpu() for logits in self.network(scaled)])
        return [torch.cat(slot) for slot in zip(*parts, strict=True)]


def asked_probabilities(
    verifier: AttributeVerifier, batch: ScoreBatch
) -> dict[str, Float[Tensor, " sample"]]:
    """Slot name -> probability of the label that each prompt asks for; NaN where it asks for none."""
    asked = [parse_prompt(prompt) for prompt in batch.prompts]
    columns = {}
    for slot, probabilities in zip(SLOTS, verifier.probabilities(batch.images), strict=True):
        labels = [slot.labels.index(a[slot.name]) if slot.name in a else -1 for a in asked]
        chosen = torch.tensor(labels, dtype=torch.int64)
        values = probabilities.gather(1, chosen.clamp_min(0)[:, None])[:, 0]
        columns[slot.name] = values.masked_fill(chosen < 0, float("nan"))
    return columns


def load(card: RewardSpec, option: str, options: Options) -> AttributeVerifier:
    """For the registry, which has no judge: that one must never reward."""
    return AttributeVerifier(options.weights / "verifier", card.name, options.device)

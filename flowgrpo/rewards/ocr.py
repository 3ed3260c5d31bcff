"""`ocr`: can the text that the prompt quotes be read in the image? By rapidocr, which brings its models.

The value is 1 - min(edits, length) / length over what was read, and 1 where the quoted text is part of it, as
in Flow-GRPO (arXiv 2505.05470) and DiffusionNFT; spaces and capitals do not count. A prompt that quotes
nothing has no score, but what was painted unasked is counted: tuned models paint words to please a CLIP
(rewards.md 1.6).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from importlib.metadata import version
from typing import Any, Final

import torch
from jaxtyping import UInt8
from rapidocr import RapidOCR
from torch import Tensor
from torch.nn.functional import interpolate

from flowgrpo.rewards.base import Abstained, RewardSpec, ScoreBatch, ScoreResult
from flowgrpo.rewards.cards import CARDS
from flowgrpo.rewards.fetch import Options

NOTHING_QUOTED: Final = Abstained(
    'the prompt asks for no text: put it in quotes, as in: a sign that says "OPEN"'
)
UNASKED: Final = "unasked characters"
"""Detail: characters read in an image whose prompt quotes nothing; NaN where it does."""
_FORMULA: Final = 2
"""1: each of several texts was held against everything that was read."""
_QUOTED: Final = re.compile('"([^"]*)"|“([^”]*)”|„([^“”]*)[“”]|«([^»]*)»|「([^」]*)」')
"""Not between single quotes: those are apostrophes."""
_DETECTION_SIDE: Final = 480
"""Pixels: the library looks for text at no fewer than this; its own 736 found no more in drawn words, and
takes twice as long."""
_READABLE_SIDE: Final = 256
"""Pixels: smaller images are scaled up to it, since letters of a few pixels are missed."""


class OcrReward:
    """0 to 1; runs on the processor, about 0.3 s an image on one core."""

    def __init__(self, card: RewardSpec = CARDS["ocr"]) -> None:
        threads = torch.get_num_threads()
        self.engine: Any = RapidOCR(
            params={
                "Global.log_level": "critical",
                "EngineConfig.onnxruntime.intra_op_num_threads": threads,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                "Det.limit_side_len": _DETECTION_SIDE,
            }
        )
        self.spec = replace(card, version=f"rapidocr {version('rapidocr')}, formula {_FORMULA}")

    def score(self, batch: ScoreBatch) -> ScoreResult:
        """How exactly each prompt's quoted texts can be read; their mean where there are several."""
        asked = [quoted(prompt) for prompt in batch.prompts]
        found = [self.read(image) for image in batch.images.cpu()]
        values = torch.tensor([similarity(texts, seen) for texts, seen in zip(asked, found, strict=True)])
        unasked = [
            float("nan") if texts else float(len(plain(seen)))
            for texts, seen in zip(asked, found, strict=True)
        ]
        reasons = tuple(None if texts else NOTHING_QUOTED for texts in asked)
        return ScoreResult(values, reasons, {UNASKED: torch.tensor(unasked)}, _scaled(batch.images))

    def read(self, image: UInt8[Tensor, "3 height width"]) -> str:
        """The text in an image, lines joined by blanks; empty where there is none."""
        enlarged = _readable(image).permute(1, 2, 0).flip(-1).contiguous()  # blue, green, red
        lines = self.engine(enlarged.numpy()).txts
        return " ".join(lines or ())


def quoted(prompt: str) -> list[str]:
    """What stands in double quotes of any language, in order; nothing that is blank."""
    found = ["".join(groups) for groups in _QUOTED.findall(prompt)]
    return [text for text in found if plain(text)]


def plain(text: str) -> str:
    """Without blanks and capitals, wide letters as narrow ones."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def similarity(asked: list[str], found: str) -> float:
    """Mean over the texts that were asked for; NaN for none.

    One text alone is held against everything that was read, as published (Flow-GRPO, arXiv 2505.05470). Of
    several, each is held against the stretch that is most like it: the others are no mistakes of its own.
    """
    shares = [_one(plain(text), plain(found), anywhere=len(asked) > 1) for text in asked]
    return sum(shares) / len(shares) if shares else float("nan")


def _one(asked: str, found: str, *, anywhere: bool) -> float:
    if asked in found:
        return 1.0
    return 1 - min(edits(asked, found, anywhere=anywhere), len(asked)) / len(asked)


def edits(first: str, second: str, *, anywhere: bool = False) -> int:
    """Letters to insert, delete or replace: Levenshtein's distance.

    Args:
        anywhere: to the stretch of `second` that is nearest to `first`, the empty one included (Sellers,
            1980).
    """
    row = [0] * (len(second) + 1) if anywhere else list(range(len(second) + 1))
    for i, letter in enumerate(first, 1):
        above, row = row, [i]
        for j, other in enumerate(second, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (letter != other)))
    return min(row) if anywhere else row[-1]


def _readable(image: Tensor) -> Tensor:
    factor = -(-_READABLE_SIDE // min(image.shape[-2:]))
    if factor <= 1:
        return image
    larger = interpolate(image[None].float(), scale_factor=factor, mode="bicubic", align_corners=False)
    return larger[0].clamp(0, 255).round().to(torch.uint8)


def _scaled(images: Tensor) -> str | None:
    height, width = images.shape[-2:]
    if min(height, width) >= _READABLE_SIDE:
        return None
    return (
        f"images of {width}x{height} were enlarged to be read; letters of few pixels are missed all the same"
    )


def load(card: RewardSpec, option: str, options: Options) -> OcrReward:
    """For the registry."""
    return OcrReward(card)

"""An open_clip model as rewards use it: unit embeddings of images and of prompts, whatever their size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import open_clip
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import center_crop, normalize, pad, resize

from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.rewards.texts import parts, plain

OPENAI_VOCABULARY: Final = 49_408
_PER_FORWARD: Final = 64
_KEPT_PROMPTS: Final = 4_096


class ClipEncoder:
    """An open_clip model with its tokenizer: unit embeddings of images and of texts.

    Attributes:
        name: For people: "CLIP ViT-L-14-quickgelu openai".
        version: Of what it computes; the same for the same weights.
        context: Tokens that it reads of a text.
    """

    def __init__(self, model: Any, tokenize: Any, name: str, version: str, device: str = "cpu") -> None:
        self.model = model.eval().requires_grad_(False).to(device)
        self.tokenize = tokenize
        self.name = name
        self.version = version
        self.device = device
        self.context: int = tokenize.context_length
        self.is_openai = getattr(tokenize, "vocab_size", None) == OPENAI_VOCABULARY
        self._texts: dict[str, tuple[Tensor, int]] = {}

    @cached_property
    def size(self) -> int:
        """Numbers in an embedding."""
        return self.encode_images(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)).shape[1]

    @property
    def side(self) -> int:
        """Pixels: the encoder sees squares of this side."""
        return _side(self.model.visual.preprocess_cfg)

    def enlarged(self, batch: ScoreBatch) -> str | None:
        """What the page says when the batch's images are smaller than what the encoder sees."""
        return enlarged(self.name, self.side, batch.images)

    def embeddings(self, batch: ScoreBatch) -> Float[Tensor, "sample embed"]:
        """Of the batch's images; the first reward that asks computes them."""
        return batch.shared((self.version, self.device), lambda: self.encode_images(batch.images))

    @torch.no_grad()
    def encode_images(self, images: UInt8[Tensor, "sample 3 height width"]) -> Float[Tensor, "sample embed"]:
        """Unit embeddings of 8-bit images."""
        config = self.model.visual.preprocess_cfg
        chunks = (prepared(chunk.to(self.device), config) for chunk in images.split(_PER_FORWARD))
        return torch.cat([self.model.encode_image(chunk, normalize=True).float() for chunk in chunks])

    def encode_prompts(self, prompts: Sequence[str]) -> Float[Tensor, "sample embed"]:
        """Unit embeddings of prompts, each read to its end: the mean of its parts where it is long."""
        return torch.stack([embedding for embedding, _ in self._read(prompts)])

    def num_parts(self, prompts: Sequence[str]) -> Int[Tensor, " sample"]:
        """How many texts each prompt is read as; 1 where it fits."""
        return torch.tensor([num for _, num in self._read(prompts)])

    def fits(self, text: str) -> bool:
        """Whether the encoder reads a text to its end."""
        return num_tokens(self.tokenize, text) <= self.context

    def _read(self, prompts: Sequence[str]) -> list[tuple[Tensor, int]]:
        """Each text is encoded once in a while."""
        if len(self._texts) + len(set(prompts)) > _KEPT_PROMPTS:
            self._texts.clear()
        new = [text for text in dict.fromkeys(prompts) if text not in self._texts]
        read = [parts(plain(text) if self.is_openai else text, self.fits) for text in new]
        flat = self._encode([part for texts in read for part in texts]).split([len(texts) for texts in read])
        means = [F.normalize(rows.mean(0), dim=0) if len(rows) > 1 else rows[0] for rows in flat]
        self._texts.update(
            (text, (mean, len(texts))) for text, mean, texts in zip(new, means, read, strict=True)
        )
        return [self._texts[text] for text in prompts]

    def encode_cut(
        self, prompts: Sequence[str]
    ) -> tuple[Float[Tensor, "sample embed"], Float[Tensor, " sample"]]:
        """Unit embeddings of prompts as models of preference were taught: word for word, cut at the end of
        what the encoder reads. And 1 for each prompt that was cut.
        """
        unique = list(dict.fromkeys(prompts))
        rows = dict(zip(unique, self._encode(unique), strict=True))
        cut = torch.tensor([float(not self.fits(prompt)) for prompt in prompts])
        return torch.stack([rows[prompt] for prompt in prompts]), cut

    @torch.no_grad()
    def _encode(self, texts: Sequence[str]) -> Tensor:
        rows = [
            self.model.encode_text(self.tokenize(list(texts[i : i + _PER_FORWARD])).to(self.device))
            for i in range(0, len(texts), _PER_FORWARD)
        ]
        return F.normalize(torch.cat(rows).float(), dim=1) if rows else torch.empty(0, 1)


def num_tokens(tokenize: Any, text: str) -> int:
    """Of a text with the marks of its ends, as one of open_clip's tokenizers counts, uncut."""
    if isinstance(tokenize, open_clip.SimpleTokenizer):
        return len(tokenize.encode(text)) + 2
    return len(tokenize.tokenizer(tokenize.clean_fn(text)).input_ids)


def enlarged(name: str, side: int, images: UInt8[Tensor, "sample 3 height width"]) -> str | None:
    """What the page says when images are smaller than what an encoder sees; None when they are not."""
    height, width = images.shape[-2:]
    if min(height, width) >= side:
        return None
    return f"images of {width}x{height} are enlarged to the {side}x{side} that {name} sees"


def said(*sentences: str | None) -> str | None:
    """The sentences that there are, as one warning."""
    return "; ".join(filter(None, sentences)) or None


def about_cut_prompts(name: str, context: int, cut: Float[Tensor, " sample"]) -> str | None:
    """What the page says when prompts were cut; None when none was."""
    num = int(cut.sum())
    return f"{name} read the first {context} tokens of {num} of {len(cut)} prompts" if num else None


def prepared(
    images: UInt8[Tensor, "sample 3 height width"], config: dict[str, Any]
) -> Float[Tensor, "sample 3 side side"]:
    """Resized and normalised the way an encoder was trained.

    Args:
        config: open_clip's: `size`, `mean`, `std`, `interpolation`, and as `resize_mode` "squash", "shortest"
            (and the middle is cut out) or "longest" (and the rest is black).
    """
    side = _side(config)
    unit = images.float().div(255)
    height, width = unit.shape[-2:]
    mode = InterpolationMode(config["interpolation"])
    match config["resize_mode"]:
        case "squash":
            shape = [side, side]
        case "shortest":  # rounded down, as torchvision's Resize does it
            shape = [length * side // min(height, width) for length in (height, width)]
        case _:
            shape = [max(1, round(length * side / max(height, width))) for length in (height, width)]
    if shape != [height, width]:
        unit = resize(unit, shape, mode, antialias=True).clamp(0, 1)
    result: Tensor = normalize(_square(unit, side), config["mean"], config["std"])
    return result


def _side(config: dict[str, Any]) -> int:
    size = config["size"]
    return int(size if isinstance(size, int) else size[0])


def _square(unit: Tensor, side: int) -> Tensor:
    """Cut about the middle, or padded with black about it."""
    missing = [max(0, side - length) for length in (unit.shape[-1], unit.shape[-2])]
    left, top = missing[0] // 2, missing[1] // 2
    padded = pad(unit, [left, top, missing[0] - left, missing[1] - top]) if any(missing) else unit
    cut: Tensor = center_crop(padded, [side, side])
    return cut

"""The before-and-after sheet: prompts as rows, the base above the tuned model, at the same seeds."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from flowgrpo.runs.pictures import Pixels

GROUND: Final = "#f3f3f1"
INK: Final = "#1d1e20"
NOTE: Final = "#6d6f73"
ACCENT: Final = "#c8551f"
COLUMNS: Final = 2
_SIDE, _GAP, _MARGIN = 112, 4, 36  # pixels: an image, the space between two, around everything
_LABEL_WIDTH, _CAPTION_HEIGHT, _HEADER_HEIGHT, _FOOT_HEIGHT = 78, 46, 92, 44
_BLOCK_GAP = 30


@dataclass(frozen=True)
class Strip:
    """The images of one model for one prompt, with a figure under its name."""

    label: str
    figure: str
    images: UInt8[Tensor, "seed 3 height width"]


@dataclass(frozen=True)
class Block:
    """One prompt and its strips, from the first to the last."""

    prompt: str
    strips: tuple[Strip, ...]


def before_after(title: str, summary: str, foot: str, blocks: Sequence[Block]) -> Image.Image:
    """Draws the sheet, two prompts side by side."""
    num_seeds = max(len(strip.images) for block in blocks for strip in block.strips)
    num_strips = max(len(block.strips) for block in blocks)
    block_width = _LABEL_WIDTH + num_seeds * (_SIDE + _GAP)
    block_height = _CAPTION_HEIGHT + num_strips * (_SIDE + _GAP) + _BLOCK_GAP
    num_rows = -(-len(blocks) // COLUMNS)
    width = 2 * _MARGIN + COLUMNS * block_width + (COLUMNS - 1) * _BLOCK_GAP
    height = 2 * _MARGIN + _HEADER_HEIGHT + num_rows * block_height + _FOOT_HEIGHT - _BLOCK_GAP
    sheet = Image.new("RGB", (width, height), GROUND)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, _MARGIN), title, INK, _font(26))
    pen.text((_MARGIN, _MARGIN + 40), summary, NOTE, _font(16))
    for number, block in enumerate(blocks):
        row, column = divmod(number, COLUMNS)
        left = _MARGIN + column * (block_width + _BLOCK_GAP)
        _draw_block(sheet, pen, block, left, _MARGIN + _HEADER_HEIGHT + row * block_height, block_width)
    pen.text((_MARGIN, height - _MARGIN - 14), foot, NOTE, _font(13))
    return sheet


def _draw_block(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, block: Block, left: int, top: int, width: int
) -> None:
    caption = textwrap.wrap(block.prompt, round(width / 6.4))[:2]
    for line, text in enumerate(caption):
        pen.text((left, top + 18 * line), text, INK, _font(14))
    for number, strip in enumerate(block.strips):
        y = top + _CAPTION_HEIGHT + number * (_SIDE + _GAP)
        colour = ACCENT if number == len(block.strips) - 1 else NOTE
        pen.text((left, y + _SIDE // 2 - 20), strip.label, colour, _font(15))
        pen.text((left, y + _SIDE // 2), strip.figure, NOTE, _font(13))
        for seed, image in enumerate(strip.images):
            sheet.paste(_enlarged(image), (left + _LABEL_WIDTH + seed * (_SIDE + _GAP), y))


def _enlarged(image: Pixels) -> Image.Image:
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    return picture.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)

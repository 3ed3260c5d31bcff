"""A prompt -> the texts that a text encoder reads in its place, none of them longer than it can read.

An encoder reads a fixed number of tokens, 77 for OpenAI's, and drops the rest without a word; a Danbooru tag
list is often longer. So a long prompt is read in parts, cut at its commas, and the parts' embeddings are
averaged (rewards.md 1.1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

_QUALITY: Final = re.compile(
    "masterpiece|(best|amazing|great|high|good|normal) quality|(incredibly )?absurdres|highres|lowres|"
    "(very )?aesthetic|very awa|newest|recent|(english )?commentary|(commentary|translation) request|"
    r"translated|bad (id|pixiv id|twitter id)|paid reward available|score \d+( up)?|(rating|source): ?\w+"
)
"""Tags of model makers and of Danbooru that say how good or which file an image is, not what it shows."""
_EMOTICON: Final = re.compile(r"\S{1,3}_\S{1,3}")
"""`^_^`, `o_o`: their underscore is a mouth."""


def plain(prompt: str) -> str:
    """A tag list as words: blanks for underscores, and no tags of quality or file.

    For encoders that learned captions of the web. A prompt of nothing but such tags stays as it is.
    """
    tags = [_spelled(tag) for tag in prompt.split(",")]
    kept = [tag for tag in tags if tag and not _QUALITY.fullmatch(tag.casefold())]
    return ", ".join(kept) or prompt


def _spelled(tag: str) -> str:
    words = " ".join(tag.split())
    return words if _EMOTICON.fullmatch(words) else " ".join(words.replace("_", " ").split())


def parts(prompt: str, fits: Callable[[str], bool]) -> list[str]:
    """The prompt itself when it fits; otherwise as few parts as its commas allow, in order.

    What stands between two commas and still does not fit is cut at its blanks; a single word is left to the
    tokenizer.

    Args:
        fits: Whether the encoder reads a text to its end.
    """
    if fits(prompt):
        return [prompt]
    tags = [tag.strip() for tag in prompt.split(",")]
    pieces = [piece for tag in tags if tag for piece in _packed(tag.split(), " ", fits)]
    return _packed(pieces, ", ", fits) or [prompt]


def _packed(pieces: Sequence[str], separator: str, fits: Callable[[str], bool]) -> list[str]:
    """Neighbours joined for as long as they fit."""
    packed: list[str] = []
    for piece in pieces:
        joined = f"{packed[-1]}{separator}{piece}" if packed else piece
        if packed and fits(joined):
            packed[-1] = joined
        else:
            packed.append(piece)
    return packed

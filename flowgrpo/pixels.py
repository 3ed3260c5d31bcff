"""Image files -> upright pictures in RGB, 8 bits a channel. No torch.

Whatever is wrong with a file becomes a ValueError that names it. Colour profiles are not applied: numbers
are taken for sRGB, as every trainer of this family takes them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.Image import Transpose

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""What is opened, whatever a file is called: Pillow reads many more, some by starting other programs."""
MAX_PIXELS = 89_478_485
"""A quarter of a GiB in RGB, where Pillow begins to warn of decompression bombs."""
_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""EXIF orientation to what undoes it; from 5 on it swaps width and height. Pillow's exif_transpose also
writes the rest of the EXIF anew, and fails where a camera wrote it carelessly.
"""
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)
"""The second is raised only where warnings are errors; elsewhere the check of MAX_PIXELS finds the same."""
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, TypeError, RuntimeError, struct.error)
"""What Pillow raises for files that are not what they say, or less of it; found by damaging thousands."""


def upright_size(path: Path) -> tuple[int, int]:
    """(width, height) as a viewer shows the image, from its header alone.

    Raises ValueError for a file that is no image, or too large a one. A truncated one still has its header.
    """
    with _opened(path) as image:
        return (image.height, image.width) if _orientation(image) >= 5 else (image.width, image.height)


def decode(path: Path) -> Image.Image:
    """The image in RGB: upright by its EXIF, on white where it is transparent, the first frame of several.

    Raises ValueError for a file that is no image, too large a one, or a truncated one.
    """
    with _opened(path) as image:
        turn = _UPRIGHT.get(_orientation(image))
        return _in_rgb(image if turn is None else image.transpose(turn))


def _orientation(image: Image.Image) -> int:
    """1 to 8 from the header's EXIF; 1, as it lies, where there is none or it makes no sense."""
    if image.format == "TIFF":
        return 1  # Pillow turns these itself, and says the upright size
    try:
        # Pillow's PNG would decode all pixels to look for EXIF behind them; the class above it does not.
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
    except _BROKEN:
        return 1
    return orientation if orientation in _UPRIGHT else 1


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            yield image
    except _BOMB as error:
        raise ValueError(
            f"{path} has more than {MAX_PIXELS // 10**6} million pixels: make it smaller, or remove it"
        ) from error
    except _BROKEN as error:
        raise ValueError(f"{path} cannot be read as an image: {_reason(path, error)}") from error


def _reason(path: Path, error: Exception) -> str:
    if not path.is_file():
        return "there is no such file"
    if path.stat().st_size == 0:
        return "it is empty"
    if isinstance(error, UnidentifiedImageError):
        return f"it is none of {', '.join(FORMATS)}"
    return str(error)


def _in_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        sixteen = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((sixteen + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError("its pixels are 32-bit numbers of no known range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")

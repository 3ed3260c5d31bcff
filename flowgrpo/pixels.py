"""Image files -> upright pictures in RGB, 8 bits a channel. No torch.

Whatever is wrong with a file becomes a ValueError that names it. Colour profiles are not applied: numbers
are taken for sRGB, as every trainer of this family takes them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.Image import Transpose

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""What is opened, whatever a file is called: Pillow reads many more, some by starting other programs."""
MAX_PIXELS = 89_478_485
"""A quarter of a GiB in RGB, where Pillow begins to warn of decompression bombs."""
_STRIP = 256
"""Rows that are converted at a time."""
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


def upright_size(path: Path, formats: tuple[str, ...] = FORMATS) -> tuple[int, int]:
    """(width, height) as a viewer shows the image, from its header alone.

    Args:
        formats: Of FORMATS, those that are opened.

    Raises ValueError for a file that is no image, or too large a one. A truncated one still has its header.
    """
    with _opened(path, formats) as image:
        return (image.height, image.width) if _orientation(image) >= 5 else (image.width, image.height)


def decode(path: Path, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """The image in RGB: upright by its EXIF, on white where it is transparent, the first frame of several.

    Args:
        formats: Of FORMATS, those that are opened.

    Raises ValueError for a file that is no image, too large a one, or a truncated one.
    """
    with _opened(path, formats) as image:
        turn = _UPRIGHT.get(_orientation(image))
        return _in_rgb(image if turn is None else image.transpose(turn))


def texts(path: Path, formats: tuple[str, ...] = FORMATS) -> dict[str, str]:
    """What an image says in words, keyword to text: of a PNG its chunks, those behind the pixels too; of the
    others EXIF's comment, which programs that write `parameters` into a PNG put there, under that name.

    Args:
        formats: Of FORMATS, those that are opened.

    Raises ValueError for a file that is no image, too large a one, or a truncated one.
    """
    with _opened(path, formats) as image:
        image.load()
        found = {str(key): value for key, value in image.info.items() if isinstance(value, str)}
        comment = _comment(image)
        return found if "parameters" in found or not comment else found | {"parameters": comment}


def _comment(image: Image.Image) -> str:
    """EXIF's UserComment: eight bytes that name its encoding, then text."""
    try:
        said = Image.Image.getexif(image).get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    except _BROKEN:
        return ""
    if not isinstance(said, bytes):
        return said if isinstance(said, str) else ""
    text = said[8:] if said[:8] in (b"UNICODE\0", b"ASCII\0\0\0", bytes(8)) else said
    if said.startswith(b"UNICODE") and len(text) > 1:  # the byte order is nowhere said: most text has ASCII
        is_little = text[1::2].count(0) > text[::2].count(0)
        return text.decode("utf-16-le" if is_little else "utf-16-be", errors="replace").strip("\0")
    return text.decode(errors="replace").strip("\0")


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
def _opened(path: Path, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=formats) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            yield image
    except _BOMB as error:
        raise ValueError(
            f"{path} has more than {MAX_PIXELS // 10**6} million pixels: make it smaller, or remove it"
        ) from error
    except _BROKEN as error:
        raise ValueError(f"{path} cannot be read as an image: {_reason(path, error, formats)}") from error


def _reason(path: Path, error: Exception, formats: tuple[str, ...]) -> str:
    if not path.is_file():
        return "there is no such file"
    if path.stat().st_size == 0:
        return "it is empty"
    if isinstance(error, UnidentifiedImageError):
        return f"it is none of {', '.join(formats)}"
    return str(error)


def _in_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _by_strips(image, _eight_bits)
    if image.mode in ("I", "F"):
        raise ValueError("its pixels are 32-bit numbers of no known range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        return _by_strips(image, _on_white)
    return image.convert("RGB")


def _by_strips(image: Image.Image, in_rgb: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """A large image would take its own memory again for each step of the way."""
    image.load()
    made = Image.new("RGB", image.size)
    for top in range(0, image.height, _STRIP):
        strip = image.crop((0, top, image.width, min(top + _STRIP, image.height)))
        made.paste(in_rgb(strip), (0, top))
    return made


def _eight_bits(image: Image.Image) -> Image.Image:
    sixteen = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((sixteen + 128) // 257).astype(np.uint8)).convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")

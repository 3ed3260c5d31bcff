"""Small copies of images, for lists of many: made when they are first asked for."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from storage.blobs import path_of
from storage.types import new_id

THUMB_SIZE = 384
"""Pixels of a thumbnail's longer side; a smaller image is its own."""


def thumb_of(home: Path, sha256: str) -> Path:
    """The thumbnail of a blob as WebP, made when it is first asked for; the blob itself where that is small.

    Raises:
        OSError: the blob is gone or no image.
    """
    original = path_of(home, sha256)
    target = home / "thumbs" / sha256[:2] / f"{sha256}.webp"
    if target.exists():
        return target
    with Image.open(original) as image:
        if max(image.size) <= THUMB_SIZE:
            return original
        image.thumbnail((THUMB_SIZE, THUMB_SIZE), Image.Resampling.LANCZOS)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{new_id()}.tmp")
        image.convert("RGB").save(partial, "WEBP", quality=88)
    partial.rename(target)
    return target

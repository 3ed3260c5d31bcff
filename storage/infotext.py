"""What a stored PNG says about how it was made."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from storage.blobs import path_of


def infotext_of(home: Path, sha256: str) -> str:
    """A1111's `parameters` text of a blob; empty where it has none or is gone."""
    try:
        with Image.open(path_of(home, sha256), formats=("PNG",)) as image:
            image.load()  # the text may stand behind the pixels
            return str(image.info.get("parameters", ""))
    except (OSError, ValueError):
        return ""

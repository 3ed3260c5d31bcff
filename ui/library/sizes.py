"""How much a model or a dataset takes on this machine's disk."""

from __future__ import annotations

import os
import time
from functools import lru_cache
from pathlib import Path

from huggingface_hub.constants import HF_HUB_CACHE

_KEPT_SECONDS = 60
"""How long a size is believed: a page redraws more often than a folder grows."""


def size_of(path: Path) -> int | None:
    """Bytes of a file or of all files in a folder, each counted once; None where there is nothing."""
    return _size(str(path), int(time.monotonic() // _KEPT_SECONDS))


@lru_cache(maxsize=256)
def _size(path: str, minute: int) -> int | None:
    if os.path.isfile(path):
        return os.path.getsize(path)
    if not os.path.isdir(path):
        return None
    seen: dict[tuple[int, int], int] = {}
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                found = os.stat(os.path.join(folder, name))
            except OSError:  # it went away meanwhile
                continue
            seen[found.st_dev, found.st_ino] = found.st_size
    return sum(seen.values())


def hub_folder(source: str) -> Path:
    """Where the files of a hub model (`owner/name`, perhaps `@revision`) are kept on this machine."""
    return Path(HF_HUB_CACHE) / f"models--{source.partition('@')[0].replace('/', '--')}"


def is_hub(source: str) -> bool:
    """Whether a source is a hub id and no path of this machine."""
    return not Path(source).exists() and not source.startswith(("/", ".", "~")) and source.count("/") == 1

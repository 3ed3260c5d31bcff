"""Networks that several rewards read: loaded once, run once per batch. And fingerprints of weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

from flowgrpo.rewards.base import ScoreBatch
from flowgrpo.starter import features
from flowgrpo.starter.features import Taps


def taps(batch: ScoreBatch, *, smooth: bool, device: str) -> Taps:
    """The batch's EfficientNet-Lite0 taps; `smooth` for distances, not for technical quality."""
    return batch.shared(
        ("efflite0", smooth), lambda: features.taps_of(batch.images, smooth=smooth, device=device)
    )


def fingerprint(*paths: Path) -> str:
    """Twelve hex digits of the SHA-256 over the files' bytes: the version of a reward that they make."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def require(path: Path, reward: str) -> Path:
    """`path` when it exists.

    Raises:
        LookupError: It does not; the sentence says what is missing and what makes it.
    """
    if not path.exists():
        raise LookupError(
            f"the {reward} reward needs {path.parent.name}/{path.name}, which is not in this copy; "
            "`python -m flowgrpo.starter.build` makes it"
        )
    return path

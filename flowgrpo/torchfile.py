"""The one place that opens files in torch's own format: published heads whose hash was checked, and our own.

Such a file is a pickle, and only tensors and plain values are read of it. What strangers send is never one:
it is read by `flowgrpo.tensorfile`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def read_torch(path: Path) -> Any:
    """Tensors and plain values of a file, on the CPU.

    Raises UnpicklingError for a file that holds anything else.
    """
    return torch.load(path, map_location="cpu", weights_only=True)

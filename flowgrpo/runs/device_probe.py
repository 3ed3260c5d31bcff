"""Whether the device of runs computes: ends with 0 where it does, else with the code of a missing device."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from flowgrpo.runs import exits
from flowgrpo.runs.device import resolve

DRIVER = Path("/proc/driver/nvidia/gpus")


def computes(device: str = "auto", driver: Path = DRIVER) -> bool:
    """Whether a sum on the device is right. Where the driver knows a GPU and torch does not, the CPU that
    `auto` would mean is no answer.
    """
    try:
        chosen = resolve(device)
        if chosen.type == "cpu" and device == "auto" and driver.is_dir() and any(driver.iterdir()):
            return False
        return bool(torch.ones(1024, device=chosen).sum().item() == 1024)
    except (LookupError, RuntimeError, OSError):
        return False


if __name__ == "__main__":
    sys.exit(exits.DONE if computes() else exits.NO_DEVICE)

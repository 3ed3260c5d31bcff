"""Whether the engine fits on a device beside a run: what it took before, against what is free now."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import torch

from flowgrpo.budget import GIB, GPU_CONTEXT
from flowgrpo.runs import layout
from flowgrpo.runs.device import identity

MARGIN_BYTES = 2 * GIB
"""Left free beside what both take, or a tenth of the device where that is more."""
FORBEARANCE = 1.5
"""What a guest that ran out of memory multiplies its need by."""
LOOK_SECONDS = 5.0
"""Between two looks: the driver's tool takes up to a second."""
TOOL_SECONDS = 10.0


class Room:
    """The engine's own need of one device, kept in the data folder, and whether that is free.

    An engine that has never worked on the device does not know its need, and has no room beside a run.
    """

    def __init__(self, home: Path, device: torch.device) -> None:
        self.device = device
        self._path = layout.engine_memory(home, identity(device))
        self._looked_at, self._was_there = -LOOK_SECONDS, False

    def note(self) -> None:
        """Keeps what this process has taken at most, where that is more than was known; a full disk keeps it
        from that and from nothing else.
        """
        self._keep(taken_bytes(self.device))

    def note_shortage(self) -> None:
        """Memory ran out beside a run: the next engine comes only where there is half as much again."""
        self._keep(int(FORBEARANCE * max(self.need(), taken_bytes(self.device))))

    def _keep(self, taken: int) -> None:
        if taken > self.need():
            with suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                partial = self._path.with_suffix(".partial")
                partial.write_text(str(taken))
                partial.rename(self._path)

    def need(self) -> int:
        """Bytes that engines have taken here at most; 0 where none has worked yet."""
        try:
            return int(self._path.read_text())
        except (OSError, ValueError):
            return 0

    def is_there(self) -> bool:
        """Whether the engine fits in now; looked at every few seconds."""
        if time.monotonic() - self._looked_at >= LOOK_SECONDS:
            self._looked_at, self._was_there = time.monotonic(), self._look()
        return self._was_there

    def _look(self) -> bool:
        need, found = self.need(), free_bytes(self.device)
        if not need or found is None:
            return False
        free, total = found
        return free - need >= max(MARGIN_BYTES, total // 10)


def taken_bytes(device: torch.device) -> int:
    """What this process has taken of the device at most; on a CPU what it takes now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) + GPU_CONTEXT
    return int(psutil.Process().memory_info().rss)


def free_bytes(device: torch.device) -> tuple[int, int] | None:
    """Free and total bytes of a device; None where nobody says.

    The driver's tool is asked, not CUDA: that would put a context of half a gigabyte beside the run.
    """
    if device.type != "cuda":
        memory = psutil.virtual_memory()
        return memory.available, memory.total
    which = f"--id={identity(device).removeprefix('cuda-')}"
    command = ["nvidia-smi", which, "--query-gpu=memory.free,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_SECONDS, check=True)
        free, total = done.stdout.strip().split(",")
        return int(free) << 20, int(total) << 20
    except (OSError, subprocess.SubprocessError, ValueError):
        return None

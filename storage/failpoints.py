"""Named places where a test may end the process, so that every step of a protocol is tried."""

from __future__ import annotations

import os
import signal

VARIABLE = "FAILPOINT"


def failpoint(name: str) -> None:
    """Kills this process where the environment says FAILPOINT=<name>:kill; else does nothing."""
    if os.environ.get(VARIABLE) == f"{name}:kill":
        os.kill(os.getpid(), signal.SIGKILL)

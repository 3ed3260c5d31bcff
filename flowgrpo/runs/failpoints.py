"""Named places where a test may end the process, so that every step of a protocol is tried.

``FLOWGRPO_FAILPOINT="checkpoint.save:2=kill"`` ends the process by SIGKILL the second time it passes that
name; ``=full`` raises the error of a full disk. Without the variable a failpoint costs one look-up.
"""

from __future__ import annotations

import errno
import os
import signal
from collections import Counter

VARIABLE = "FLOWGRPO_FAILPOINT"
_passes: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Does nothing, unless the environment asks for a fault at this place.

    Raises:
        OSError: ENOSPC, when the fault asked for is ``full``.
        ValueError: the fault asked for is neither ``kill`` nor ``full``.
    """
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return
    place, _, fault = wanted.partition("=")
    place, _, count = place.partition(":")
    if place != name:
        return
    _passes[name] += 1
    if _passes[name] != int(count or 1):
        return
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "full":
        raise OSError(errno.ENOSPC, "No space left on device")
    raise ValueError(f"{VARIABLE} expects NAME:COUNT=kill or NAME:COUNT=full, got {wanted!r}")

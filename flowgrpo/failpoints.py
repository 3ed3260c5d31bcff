"""Named places where a test may break this process, so that every step of a protocol is tried.

``FAILPOINT=ckpt.rename:kill`` ends the process by SIGKILL when it comes to that place, ``:enospc`` raises the
error of a full disk there, and ``train.updated:3:kill`` waits for the third time. Without the variable a
failpoint costs one look-up. No torch, and no step of a protocol depends on it.
"""

from __future__ import annotations

import errno
import os
import signal
from collections import Counter

VARIABLE = "FAILPOINT"
passes: Counter[str] = Counter()
"""How often each place was passed in this process: how a test knows that it has tried all of them."""


def failpoint(name: str) -> None:
    """Does nothing, unless the environment asks for a fault at this place.

    Raises:
        OSError: ENOSPC, where that is the fault asked for.
        ValueError: the fault asked for is neither "kill" nor "enospc".
    """
    passes[name] += 1
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    place, _, fault = wanted.rpartition(":")
    head, _, last = place.rpartition(":")
    place, count = (head, int(last)) if last.isdigit() else (place, 1)
    if place != name or passes[name] != count:
        return
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "enospc":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    raise ValueError(f"{VARIABLE} expects NAME:kill, NAME:COUNT:kill or enospc for kill, got {wanted!r}")

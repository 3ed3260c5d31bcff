"""Work that can wait steps back from the processor, so that a page answers beside it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BACKGROUND = 15
"""Of a run and of an export: beside a busy page they get a thirtieth of a core, and all of an idle one
(weights of sched(7): 36 to 1,024)."""
ATTENDED = 5
"""Of the engine worker: somebody waits for its images, but not for the tenth of a second."""
_AUTOGROUP = Path("/proc/self/autogroup")


def step_back(niceness: int) -> None:
    """Lowers the priority of this thread and of what it starts, and of its session.

    Where Linux shares the processor by sessions (`sched_autogroup_enabled`, as desktops do), a niceness
    counts within its own session alone: a process that leads one, as a run's does, makes all of it nicer.

    Threads that are there already keep their priority: call it before there are any.
    """
    with suppress(OSError, AttributeError):  # Windows has no priorities of this kind
        os.setpriority(os.PRIO_PROCESS, 0, max(niceness, os.getpriority(os.PRIO_PROCESS, 0)))
    if sys.platform == "linux" and os.getsid(0) == os.getpid():
        with suppress(OSError):
            _AUTOGROUP.write_text(str(niceness))


@contextmanager
def stepping_back(niceness: int = BACKGROUND) -> Iterator[None]:
    """Steps back for a while. Who may not come forward again, as on Linux all but root, stays behind."""
    before = os.getpriority(os.PRIO_PROCESS, 0) if hasattr(os, "getpriority") else 0
    step_back(niceness)
    try:
        yield
    finally:
        with suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, 0, before)

"""The compute device: which one, and how worker and trainer take turns on it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from flowgrpo.runs import layout
from storage.locks import Turnstile

MIN_TURN_SECONDS = 2.0
"""A trainer that gives way keeps the device at least this long, so that a full queue does not starve it."""


class NoDeviceError(LookupError):
    """The device that was asked for is not there."""


def resolve(device: str) -> torch.device:
    """`auto` is the first GPU where there is one, else the CPU.

    Raises:
        LookupError: there is no such device; `NoDeviceError` where there might be one, and is none now.
    """
    if device == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise LookupError(f"there is no device {device}: name auto, cpu or cuda:0") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise NoDeviceError(f"there is no device {device}: this machine has {torch.cuda.device_count()} GPUs")
    return chosen


def describe(device: torch.device) -> str:
    """The device as a person knows it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def identity(device: torch.device) -> str:
    """The device's name on this machine: `cuda:0` is another GPU for who sees others."""
    if device.type == "cuda":
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        return f"cuda-{uuid if uuid.startswith(('GPU-', 'MIG-')) else f'GPU-{uuid}'}"
    return f"{device.type}-{device.index or 0}"


def use_all_cores() -> None:
    """One thread per core; an OMP_NUM_THREADS in the environment stands."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(os.cpu_count() or 1)


class Turns:
    """The device, shared by one worker and one trainer; each asks before it computes.

    Args:
        give_up: when it is true, waiting for the device ends with GaveUpError.
    """

    def __init__(self, home: Path, device: torch.device, give_up: Callable[[], bool] = lambda: False) -> None:
        self._give_up = give_up
        self._turnstile = Turnstile(layout.host_folder(home), str(device).replace(":", "-"))
        self._held = ExitStack()
        self._since = 0.0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Waits for the device and holds it for the block. Raises GaveUpError."""
        self._take(self._give_up)
        try:
            yield
        finally:
            self._held.close()

    def give_way(self, *, may_give_up: bool = True) -> None:
        """Inside a turn: lets somebody who waits go first, once this turn has lasted long enough.

        Whoever is about to give up computes on to its next safe point instead.

        Args:
            may_give_up: False where the work cannot be left half done: the wait is seen through.
        """
        is_long = time.monotonic() - self._since >= MIN_TURN_SECONDS
        if is_long and not self._give_up() and self._turnstile.is_wanted():
            self._held.close()
            self._take(self._give_up if may_give_up else lambda: False)

    def _take(self, give_up: Callable[[], bool]) -> None:
        self._held.enter_context(self._turnstile.turn(give_up))
        self._since = time.monotonic()


def when_parent_goes(act: Callable[[], None], *, grace_seconds: float, exit_code: int) -> None:
    """Calls `act` once this process's parent has gone; ends the process if it outlives the grace."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        act()
        time.sleep(grace_seconds)
        os._exit(exit_code)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()

"""Who has its tensors on a device: the engine worker, a training run, or both where there is room.

A device is two locked files. Its resident has the first, and the second too until it lets a guest in: an
engine that joins a run whose memory will not grow any more, and takes turns with it
(`flowgrpo.runs.device.Turns`). Children that inherit the descriptor hold a lock too, so that the device is
free only when the last of them has gone, however that came about. Who waits and may not be kept waiting
locks a third file: the worker looks there between two steps, ends, and waits for its turn in a new process,
since only the end of a process gives all of a GPU's memory back. On a CPU both live side by side without
any of this.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from storage.locks import FileLock, GaveUpError, is_held

SHARE_VARIABLE = "FLOWGRPO_SHARE_DEVICE"
"""1 lets the worker stay on a GPU beside a run, whatever room there is; 0 treats a CPU like a GPU."""
FOLDER_VARIABLE = "FLOWGRPO_DEVICE_LOCKS"
"""Folder of the locks, which all studios of a machine share."""
SHARED_MEMORY = Path("/dev/shm")
"""Where they are unless somebody said otherwise: systemd gives services temporary folders of their own."""
POLL_SECONDS = 0.2
LOOK_SECONDS = 0.2
"""Between two looks at whether somebody waits; a step of a sampler may be shorter."""


def is_exclusive(device: str) -> bool:
    """Whether a device has one resident at a time: a GPU does, unless somebody said otherwise."""
    said = os.environ.get(SHARE_VARIABLE, "")
    return said == "0" or (said != "1" and not device.startswith("cpu"))


def locks_folder() -> Path:
    """Where the locks of this machine's devices are; made where it is not there."""
    everybodys = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    own = everybodys / f"flowgrpo-devices-{os.getuid()}"
    folder = Path(os.environ.get(FOLDER_VARIABLE) or own)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


class Residence:
    """The right to have tensors on one device. Where that is shared, everybody has it.

    Args:
        device: as torch writes it.
        identity: its name on this machine, whoever sees it under whatever number
            (`flowgrpo.runs.device.identity`).
    """

    def __init__(self, device: str, identity: str = "") -> None:
        self.is_exclusive = is_exclusive(device)
        path = Path()
        if self.is_exclusive:
            path = locks_folder() / f"{identity or device.replace(':', '-')}.lock"
        self._lock = FileLock(path)
        self._beside, self._wanted = (
            FileLock(path.with_suffix(end) if path.name else path) for end in (".beside", ".wanted")
        )
        self._looked_at, self._is_wanted, self._stays_alone = 0.0, False, False

    @contextmanager
    def hold(
        self,
        give_up: Callable[[], bool],
        waits: Callable[[], None] = lambda: None,
        *,
        is_urgent: bool = False,
    ) -> Iterator[None]:
        """Waits for the device, and has it for the block.

        Args:
            waits: called again and again while somebody else has it.
            is_urgent: asks who has it to go; a worker does, a run stays.

        Raises:
            GaveUpError: `give_up` came true first.
        """
        self.take(give_up, waits, is_urgent=is_urgent)
        try:
            yield
        finally:
            self.leave()

    def take(
        self,
        give_up: Callable[[], bool],
        waits: Callable[[], None] = lambda: None,
        *,
        is_urgent: bool = False,
        has_room: Callable[[], bool] = lambda: False,
    ) -> None:
        """As `hold`, until `leave` or the end of this process and of all who inherited the lock.

        Args:
            has_room: whether this process fits in beside a run that lets guests in.
        """
        if not self.is_exclusive:
            return
        self._beside.is_shared = not is_urgent  # a run's plug-ins do not keep guests out
        with ExitStack() as undo:
            undo.callback(self.leave)  # a run that gives up keeps no place
            self._wait(
                lambda: self._enter(has_room, keeps_place=is_urgent), give_up, waits, is_urgent=is_urgent
            )
            undo.pop_all()

    def _wait(
        self,
        try_it: Callable[[], bool],
        give_up: Callable[[], bool],
        waits: Callable[[], None],
        *,
        is_urgent: bool,
    ) -> None:
        try:
            while not try_it():
                if is_urgent and not self._wanted.is_mine:
                    self._wanted.acquire(blocking=False)
                if give_up():
                    raise GaveUpError
                waits()
                time.sleep(POLL_SECONDS)
        finally:
            self._wanted.release()

    def _enter(self, has_room: Callable[[], bool], *, keeps_place: bool) -> bool:
        """Takes both locks, or as a guest the second one."""
        if self._lock.is_mine or self._lock.acquire(blocking=False):
            is_in = self._beside.acquire(blocking=False)
            if not is_in and not keeps_place:
                self._lock.release()
            return is_in
        is_open = not is_held(self._wanted.path) and not is_held(self._beside.path)
        return is_open and has_room() and self._beside.acquire(blocking=False)

    @property
    def is_guest(self) -> bool:
        """Whether this process is on the device beside a run, by its leave."""
        return self.is_exclusive and self._beside.is_mine and not self._lock.is_mine

    def let_in(self) -> None:
        """A run whose memory will not grow any more lets a guest in; not again where it sent one away."""
        if not self._stays_alone:
            self._beside.release()

    def send_away(self, give_up: Callable[[], bool], waits: Callable[[], None] = lambda: None) -> bool:
        """Has the device to itself; whether a guest had to go for it, who is not let in again.

        Args:
            waits: called again and again until the guest has gone.

        Raises:
            GaveUpError: `give_up` came true first.
        """
        if not self.is_exclusive or self._beside.is_mine:
            return False
        had_guest = is_held(self._beside.path)
        self._wait(lambda: self._beside.acquire(blocking=False), give_up, waits, is_urgent=True)
        self._stays_alone = self._stays_alone or had_guest
        return had_guest

    def leave(self) -> None:
        """Gives the device up for this process. Who inherited the lock has it until that one ends, as its
        tensors are there till then.
        """
        self._lock.hand_over()
        self._beside.hand_over()

    def end_at_exec(self) -> None:
        """The program that this process becomes next does not hold the device: it waits like any other."""
        self._lock.end_at_exec()
        self._beside.end_at_exec()

    def is_wanted(self) -> bool:
        """Whether somebody waits who may not be kept waiting; looked at a few times a second."""
        if not self.is_exclusive:
            return False
        if time.monotonic() - self._looked_at >= LOOK_SECONDS:
            self._looked_at, self._is_wanted = time.monotonic(), is_held(self._wanted.path)
        return self._is_wanted

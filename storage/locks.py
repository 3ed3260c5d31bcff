"""Locks between processes, by flock: held exactly as long as some process keeps the file descriptor.

A lock on an inherited descriptor lives until the last process of the tree has gone, kill -9 included, so
"alive or dead" and "device free or taken" are never a guess. The files are never deleted.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL_SECONDS = 0.01
_PROBE_SECONDS = 0.1
"""An `is_held` probe takes the lock for microseconds; an attempt that does not wait outlasts that."""


class GaveUpError(Exception):
    """Somebody who waited for a lock was told to wait no longer; it holds nothing."""


class FileLock:
    """An exclusive flock on `path`.

    Args:
        is_shared: the descriptor is inheritable, so that children may share the hold.
    """

    def __init__(self, path: Path, *, is_shared: bool = True) -> None:
        self.path, self.is_shared = path, is_shared
        self._fd: int | None = None

    @classmethod
    def adopt(cls, path: Path, fd: int) -> FileLock:
        """The lock that this process inherited as `fd`."""
        lock = cls(path)
        lock._fd = fd
        return lock

    @property
    def fd(self) -> int:
        """The descriptor, for `Popen(pass_fds=...)`. Raises RuntimeError when the lock is not held."""
        if self._fd is None:
            raise RuntimeError(f"the lock {self.path.name} is not held: acquire it first")
        return self._fd

    @property
    def is_mine(self) -> bool:
        """Whether this object holds it."""
        return self._fd is not None

    def acquire(self, blocking: bool = True, timeout_seconds: float = _PROBE_SECONDS) -> bool:
        """Takes the lock; without `blocking`, returns False when somebody else holds it till the timeout."""
        if self._fd is not None:
            raise RuntimeError(f"the lock {self.path.name} is held already by this object")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        if blocking:
            fcntl.flock(fd, fcntl.LOCK_EX)
        elif not _try_for(fd, timeout_seconds):
            os.close(fd)
            return False
        os.set_inheritable(fd, self.is_shared)
        self._fd = fd
        return True

    def release(self) -> None:
        """Ends the hold for every process that shares it. Nothing happens when it is not held."""
        if self._fd is not None:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
            self.hand_over()

    def hand_over(self) -> None:
        """Lets go of this process's copy only: children that inherited it hold the lock alone."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def end_at_exec(self) -> None:
        """A program that this process becomes holds it no more; children that inherited it still do."""
        if self._fd is not None:
            os.set_inheritable(self._fd, False)

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _try(fd: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _try_for(fd: int, seconds: float) -> bool:
    give_up_at = time.monotonic() + seconds
    while not _try(fd):
        if time.monotonic() >= give_up_at:
            return False
        time.sleep(0.002)
    return True


def is_held(path: Path) -> bool:
    """True while any process holds the lock at `path`; a missing file is a free lock."""
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _try(fd, fcntl.LOCK_SH)  # shared: two who look at once do not see each other
    finally:
        os.close(fd)


class Turnstile:
    """Hands a device from process to process, first come, first served.

    A plain flock is not fair: whoever releases it takes it again before the other has woken up. Here
    everybody draws a ticket, a locked file with a number, and waits for the locks of all lower numbers. The
    kernel unlocks a ticket when its process dies, so a killed holder or waiter stops nobody.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._tickets = folder / f"{name}.tickets"
        self._issue = folder / f"{name}.lock"

    @contextmanager
    def turn(self, give_up: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Waits for the device and holds it for the block. Not re-entrant.

        Raises:
            GaveUpError: `give_up` came true before the device was free.
        """
        number, ticket = self._draw()
        try:
            for lower in [other for other in self._numbers() if other < number]:
                self._wait_for(lower, give_up)
            yield
        finally:
            ticket.path.unlink()
            ticket.release()

    def is_wanted(self) -> bool:
        """True while somebody waits for the device."""
        return sum(is_held(self._path(number)) for number in self._numbers()) > 1

    def _draw(self) -> tuple[int, FileLock]:
        self._tickets.mkdir(parents=True, exist_ok=True)
        with FileLock(self._issue):
            number = max(self._numbers(), default=0) + 1
            ticket = FileLock(self._path(number), is_shared=False)  # a turn is one process's
            ticket.acquire()
        return number, ticket

    def _wait_for(self, number: int, give_up: Callable[[], bool]) -> None:
        """Returns when the holder of this ticket has finished or died; clears up after the dead.

        It looks again and again, as a wait inside flock would go on over every signal.
        """
        try:
            fd = os.open(self._path(number), os.O_RDWR)
        except FileNotFoundError:
            return
        try:
            while not _try(fd, fcntl.LOCK_SH):
                if give_up():
                    raise GaveUpError
                time.sleep(_POLL_SECONDS)
            self._path(number).unlink(missing_ok=True)
        finally:
            os.close(fd)

    def _numbers(self) -> list[int]:
        return sorted(int(path.name) for path in self._tickets.iterdir())

    def _path(self, number: int) -> Path:
        return self._tickets / str(number)

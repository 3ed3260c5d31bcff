"""Processes that decode strangers' images: one that crashes or hangs costs one image and nothing else.

Each serves one image at a time and lives on for the next; `flowgrpo.pixel_server` is the other end.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

_REPOSITORY: Final = Path(__file__).resolve().parents[1]
SECONDS: Final = 30.0
"""For one step of one image; the largest that is taken needs 3 on two cores."""
MAX_PROCESSES: Final = 2
_ENVIRONMENT: Final = {
    "PATH": os.defpath,
    "PYTHONPATH": str(_REPOSITORY),
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""All that a decoder learns: nothing of this process's own environment, which may hold secrets."""


class DecoderError(Exception):
    """The process gave no answer; the text goes on after the name of an image."""


class Decoder:
    """One process, started at once and ended with this object or this process."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            command = [sys.executable, "-P", "-m", "flowgrpo.pixel_server", str(number)]
            self.process = subprocess.Popen(
                command, pass_fds=(number,), stdin=subprocess.DEVNULL, env=_ENVIRONMENT, cwd="/"
            )
        self._connection = Connection(ours.detach())
        self.end = weakref.finalize(self, _end, self.process, self._connection)

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Sends a message and returns the answer.

        Raises:
            DecoderError: there is none within SECONDS; the process has ended then.
        """
        overdue = threading.Event()

        def stop() -> None:
            overdue.set()
            self.process.kill()

        timer = threading.Timer(SECONDS, stop)
        timer.start()
        try:
            self._connection.send_bytes(json.dumps(message).encode())
            said: dict[str, Any] = json.loads(self._connection.recv_bytes())
        except (EOFError, OSError, ValueError) as error:
            self.end()
            why = (
                f"takes more than {SECONDS:g} s"
                if overdue.is_set()
                else "ended the program that reads images"
            )
            raise DecoderError(why) from error
        finally:
            timer.cancel()
        return said


def _end(process: subprocess.Popen[bytes], connection: Connection) -> None:
    with suppress(OSError):
        connection.close()
    process.kill()
    process.wait()


class Decoders:
    """A few processes, started when they are needed, and lent to one image at a time."""

    def __init__(self, count: int = MAX_PROCESSES) -> None:
        self._free = threading.BoundedSemaphore(count)
        self._idle: list[Decoder] = []
        self._lock = threading.Lock()

    @contextmanager
    def lent(self) -> Iterator[Decoder]:
        """Waits for a process that has nothing to do, and has it for the block."""
        with self._free:
            with self._lock:
                decoder = self._idle.pop() if self._idle else None
            decoder = decoder or Decoder()
            try:
                yield decoder
            finally:
                if decoder.end.alive:
                    with self._lock:
                        self._idle.append(decoder)

    def close(self) -> None:
        """Ends those that have nothing to do."""
        with self._lock:
            idle, self._idle = self._idle, []
        for decoder in idle:
            decoder.end()

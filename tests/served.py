"""The whole program as a person starts it: `python app.py serve` in a folder and on a port of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 120
"""How long a loaded machine may take; the budget itself is measured by `make bench`."""


@dataclass(frozen=True)
class Served:
    """A running studio: where it listens, and its process."""

    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def served(home: Path, log: Path, options: Sequence[str] = (), port: int | None = None) -> Iterator[Served]:
    """Starts the studio, waits until it answers, and ends it as Ctrl+C would.

    Args:
        port: one that an earlier studio had; None for any that is free.
    """
    port = port or free_port()
    command = [sys.executable, "app.py", "serve", "--home", str(home), "--port", str(port), *options]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        try:
            _wait(f"http://127.0.0.1:{port}", process, log)
            yield Served(f"http://127.0.0.1:{port}", process)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=5):
                return
        except OSError:
            assert process.poll() is None, log.read_text()
    pytest.fail(f"the studio did not start in {START_SECONDS} s: {log.read_text()}")

"""The one process that writes a log: what others say into its pipe, masked, into files that are rotated.

It is a process of its own, so that neither the end of the shim nor that of the web blocks who writes, and
what a program said last is kept however it ended. It ends when the last writer has closed the pipe.

    python -S -m flowgrpo.runs.log_writer PATH [MAX_BYTES]
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from storage.log_files import rotate
from storage.masking import Masker

RUN_LOG_BYTES = 50 * 2**20
CHUNK = 1 << 16
SILENCE_SECONDS = 0.3
"""After which half a line is written as it stands."""
DRAIN_SECONDS = 10.0


class LogWriter:
    """Takes bytes, writes masked lines. A full disk costs lines, which is said later, and never a writer."""

    def __init__(self, path: Path, max_bytes: int, masker: Masker | None = None) -> None:
        self.path, self.max_bytes = path, max_bytes
        self._masker = masker or Masker()
        self._rest = b""
        self._lost = 0

    def take(self, data: bytes) -> None:
        """Writes the whole lines of what has come so far."""
        whole, newline, rest = (self._rest + data).rpartition(b"\n")
        self._rest = rest
        if newline:
            self._write(whole + newline)

    def flush(self) -> None:
        """Writes half a line too: its other half may never come."""
        if self._rest:
            self._rest, rest = b"", self._rest
            self._write(rest)

    def _write(self, data: bytes) -> None:
        masked = self._masker.mask(data.decode("utf-8", "surrogateescape"))
        out = masked.encode("utf-8", "surrogateescape")
        try:
            self._rotate_if_full(len(out))
            if self._lost:
                out = f"[{self._lost} bytes of the log could not be written]\n".encode() + out
            with self.path.open("ab", buffering=0) as file:
                file.write(out)
            self._lost = 0
        except OSError:
            self._lost += len(data)

    def _rotate_if_full(self, coming: int) -> None:
        size = self.path.stat().st_size if self.path.exists() else 0
        if size and size + coming > self.max_bytes:
            rotate(self.path)


def open_log(
    path: Path, environment: Mapping[str, str], max_bytes: int = RUN_LOG_BYTES
) -> subprocess.Popen[bytes]:
    """Starts a writer; give its `stdin` to whoever writes, then close it here."""
    command = [sys.executable, "-S", "-m", "flowgrpo.runs.log_writer", str(path), str(max_bytes)]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=dict(environment),
    )


def drain(writer: subprocess.Popen[bytes], seconds: float = DRAIN_SECONDS) -> None:
    """Waits until all that was said is on disk; ends a writer whose pipe somebody still holds."""
    if writer.stdin is not None and not writer.stdin.closed:
        writer.stdin.close()
    try:
        writer.wait(seconds)
    except subprocess.TimeoutExpired:
        writer.kill()
        writer.wait()


def main(arguments: list[str]) -> int:
    """Entry point of the writer's process."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with its pipe
    writer = LogWriter(Path(arguments[0]), int(arguments[1]) if len(arguments) > 1 else RUN_LOG_BYTES)
    pipe = sys.stdin.fileno()
    while True:
        if not select.select([pipe], [], [], SILENCE_SECONDS)[0]:
            writer.flush()
            continue
        data = os.read(pipe, CHUNK)
        if not data:
            writer.flush()
            return 0
        writer.take(data)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

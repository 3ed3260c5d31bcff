"""Child processes at the other end of two pipes: started, asked within a time limit, ended for certain."""

from __future__ import annotations

import logging
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

from flowgrpo.rewards.checks import FailedRewardError
from flowgrpo.rewards.wire import BrokenFrameError, Header, Pipes

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
_MARGIN_SECONDS: Final = 1.0
"""The child ends itself at its limit and says where it hung; this much later it is killed."""
_END_SECONDS: Final = 5.0
_DESCRIPTORS: Final = "/dev/fd"
_STANDARD: Final = 2
"""Up to here descriptors are input, output and errors, which a child has its own of."""
_log = logging.getLogger(__name__)


def child_command() -> list[str]:
    """How a child is started; -P keeps the working folder out of what it can import."""
    return [sys.executable, "-P", "-m", "flowgrpo.rewards.child", "--parent", str(os.getpid())]


def locks_of_the_tree() -> tuple[int, ...]:
    """Descriptors that this process's children are meant to hold as well, for `Popen(pass_fds=...)`.

    A run, an engine worker and a device are locked files whose descriptors are inheritable, and are free once
    the last process that has a copy has ended. Python makes no other regular file inheritable; what libraries
    leave open of devices and connections is not passed on.
    """
    found = []
    for name in os.listdir(_DESCRIPTORS):
        with suppress(OSError):  # the listing's own has been closed by now
            number = int(name)
            is_file = stat.S_ISREG(os.fstat(number).st_mode)
            if number > _STANDARD and is_file and os.get_inheritable(number):
                found.append(number)
    return tuple(sorted(found))


class Child:
    """A process at the other end of two pipes. It keeps the locks of the tree that it belongs to.

    Args:
        name: Of the reward; begins each line of its log.
    """

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self.process = subprocess.Popen(
            command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=_environment(), start_new_session=True, pass_fds=locks_of_the_tree(),
        )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        os.set_blocking(self.process.stdin.fileno(), False)
        self.pipes = Pipes(self.process.stdout.fileno(), self.process.stdin.fileno())
        self.last_words: deque[str] = deque(maxlen=20)
        self._listener = threading.Thread(
            target=_listen, args=(self.process.stderr, name, self.last_words), name=f"{name} log", daemon=True
        )
        self._listener.start()
        self.end = weakref.finalize(self, _end, self.process, self._listener)

    def ask(self, header: Mapping[str, Any], data: bytes = b"", *, seconds: float) -> tuple[Header, bytes]:
        """Sends a message and waits for the answer.

        Raises:
            FailedRewardError: There is none; the child has ended then.
        """
        started = time.monotonic()
        self.pipes.deadline = started + seconds + _MARGIN_SECONDS
        try:
            self.pipes.send({**header, "seconds": seconds}, data)
            return self.pipes.receive()
        except BrokenFrameError as error:
            reason = f"the {self.name} reward sent no answer that can be read: {error}"
        except TimeoutError:
            reason = self._too_slow(seconds)
        except (EOFError, OSError):
            took = time.monotonic() - started
            reason = self._too_slow(seconds) if took >= seconds else self._crashed()
        self.end()
        raise FailedRewardError(reason)

    def kill(self) -> None:
        """Kills it and what it started, from another thread than that which asks: that one is told that the
        pipes are closed, and ends what is left.
        """
        if self.process.poll() is None:  # its number may be somebody else's by now
            _kill(self.process)

    def _too_slow(self, seconds: float) -> str:
        return f"the {self.name} reward did not answer within {seconds:g} s"

    def _crashed(self) -> str:
        """How it ended, and its last line where it ended by itself: an error that nothing caught."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_END_SECONDS)
        self._listener.join(_END_SECONDS)
        code = self.process.poll()
        if code is None:
            return f"the {self.name} reward closed its pipes"
        if code < 0:
            known = {number.value: number.name for number in signal.Signals}
            likely = ", likely out of memory" if -code == signal.SIGKILL else ""
            return f"the {self.name} reward crashed with {known.get(-code, f'signal {-code}')}{likely}"
        words = f": {self.last_words[-1]}" if self.last_words else ""
        return f"the {self.name} reward ended its process with exit code {code}{words}"


def _listen(stream: IO[bytes], name: str, last_words: deque[str]) -> None:
    """Passes on what a child prints, line by line."""
    with stream:
        while line := stream.readline(4096):
            text = line.decode(errors="replace").rstrip()
            if text:
                last_words.append(text[:300])
                _log.info("%s: %s", name, text)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes], listener: threading.Thread) -> None:
    """Ends a child and what it started."""
    _kill(process)
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
    listener.join(_END_SECONDS)


def _environment() -> dict[str, str]:
    """This process's environment; the child imports from where this one does.

    The address of the database may hold a password, and a reward has no business there.
    """
    paths = dict.fromkeys([str(_REPOSITORY), *(path or os.getcwd() for path in sys.path)])
    ours = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", "TQDM_DISABLE": "1"}
    mine = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "PGPASSWORD")}
    return mine | ours

"""Keeps one engine worker per device alive, and gives back what a dead one had in work."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil

from flowgrpo.runs import layout, process
from flowgrpo.runs.log_writer import drain, open_log
from flowgrpo.runs.patience import attempt_write
from storage import groups, jobs, workers
from storage.engine import Database
from storage.locks import FileLock, is_held
from storage.models import WorkerState

UNTIL_STDIN_CLOSES = "--until-stdin-closes"
WORKER = (sys.executable, "-m", "flowgrpo.runs.worker")
STABLE_SECONDS = 20.0
"""A worker that lived this long did not die of its start, so the next one starts without a pause."""
MAX_PAUSE_SECONDS = 30.0
PATIENCE_SECONDS = 15.0
"""How long a worker whose dispatcher has gone may take to notice."""
MAX_LOG_BYTES = 5_000_000
MADE_ROOM = 75
"""Exit code of a worker that gave its device up to a run."""
_log = logging.getLogger(__name__)


def worker_id(home: Path, device: str) -> str:
    """The same at every start, so that what a dead worker had in work is found by its successor."""
    return f"{process.host_of(home)}:{device}"


class WorkerKeeper:
    """The engine worker of one device: started at once so that it is warm, started again when it dies.

    Args:
        db: the data folder.
        device: `auto`, `cpu`, `cuda:0`, ...
        command: the worker's command, without its options.
    """

    def __init__(self, db: Database, device: str = "auto", command: Sequence[str] = WORKER) -> None:
        self.db = db
        self.device = device
        self.command = tuple(command)
        self.worker_id = worker_id(db.home, device)
        self._mark = f"{db.home.resolve()}:{device}"
        self._path = layout.worker_lock(db.home, device)
        self._worker: subprocess.Popen[bytes] | None = None
        self._writer: subprocess.Popen[bytes] | None = None
        self._started_at = self._next_start = 0.0
        self._deaths = 0
        self._stranger_since: float | None = None

    def tick(self) -> None:
        """Looks after the worker; call it often."""
        if self._worker is not None:
            code = self._worker.poll()
            if code is None:
                return
            self._bury(code)
        if time.monotonic() < self._next_start or self._is_taken():
            return
        self._recover(died=True)
        self._start()

    def _is_taken(self) -> bool:
        """A worker of a dispatcher that has gone ends by itself; one that does not notice is ended."""
        if not is_held(self._path):
            self._stranger_since = None
            return False
        now = time.monotonic()
        self._stranger_since = self._stranger_since or now
        if now - self._stranger_since > PATIENCE_SECONDS:
            process.end_all(lambda: process.marked(process.WORKER_MARK, self._mark))
        return True

    def _start(self) -> None:
        lock = FileLock(self._path)
        if not lock.acquire(blocking=False):
            return
        try:
            self._worker = self._spawn(lock)
        finally:
            lock.hand_over()  # where no process was started, nobody holds it any more
        self._started_at = time.monotonic()
        if not self._deaths:  # the last words of a worker that died stand until its successor speaks
            self._say(self._worker.pid, "starting", "loading its libraries")

    def _spawn(self, lock: FileLock) -> subprocess.Popen[bytes]:
        environment = process.child_environment(process.WORKER_MARK, self._mark, fetches=True)
        self._writer = writer = open_log(
            layout.worker_log(self.db.home, self.device), environment, MAX_LOG_BYTES
        )
        assert writer.stdin is not None
        try:
            return subprocess.Popen(
                [*self.command, "--home", str(self.db.home), "--device", self.device, UNTIL_STDIN_CLOSES],
                pass_fds=(lock.fd,),
                start_new_session=True,
                stdin=subprocess.PIPE,
                stdout=writer.stdin,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        except OSError:
            drain(writer)
            raise
        finally:
            writer.stdin.close()

    def _bury(self, code: int) -> None:
        """Notes the death, ends its children, and puts off the next start when it died of starting."""
        self._close_pipe()
        self._worker = None
        self._end_the_rest()
        if code == MADE_ROOM:  # its successor waits until the device is free again
            return
        lived = time.monotonic() - self._started_at
        self._deaths = 1 if lived > STABLE_SECONDS else self._deaths + 1
        pause = 0.0 if self._deaths == 1 else min(2.0**self._deaths, MAX_PAUSE_SECONDS)
        self._next_start = time.monotonic() + pause
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        last = next(reversed(layout.log_tail(layout.worker_log(self.db.home, self.device))), "")
        detail = f"The engine ended {how} after {lived:.0f} s and starts again. Its last words: {last}"
        _log.warning("%s", detail)
        self._say(0, "stopped", detail)

    def _say(self, pid: int, state: WorkerState, detail: str) -> None:
        attempt_write(
            "worker",
            lambda: workers.worker_beat(
                self.db, worker_id=self.worker_id, pid=pid, state=state, detail=detail
            ),
        )

    def _recover(self, *, died: bool) -> None:
        for group in groups.orphaned_groups(self.db, self.worker_id):
            attempt_write("requeue", partial(groups.requeue_group, self.db, group.id, died=died))
        for job in jobs.orphaned_jobs(self.db, self.worker_id):
            attempt_write("requeue", partial(jobs.requeue_job, self.db, job.id, died=died))

    def stop(self, seconds: float = 10.0) -> None:
        """Ends the worker between two steps, or by force; what it had in work is queued again."""
        if self._worker is None:
            return
        self._close_pipe()
        try:
            self._worker.wait(seconds)
        except subprocess.TimeoutExpired:
            self._worker.kill()
            self._worker.wait()
        self._worker = None
        self._end_the_rest()
        self._recover(died=False)

    def _end_the_rest(self) -> None:
        """Its children, then the writer of its log, once that has written what they said last."""
        writer, self._writer = self._writer, None

        def left() -> list[psutil.Process]:
            found = process.marked(process.WORKER_MARK, self._mark)
            return [one for one in found if writer is None or one.pid != writer.pid]

        process.end_all(left)
        if writer is not None:
            drain(writer)

    def _close_pipe(self) -> None:
        assert self._worker is not None
        assert self._worker.stdin is not None
        with suppress(BrokenPipeError):
            self._worker.stdin.close()

    @property
    def pid(self) -> int | None:
        """The worker's process id while there is one."""
        return self._worker.pid if self._worker is not None else None

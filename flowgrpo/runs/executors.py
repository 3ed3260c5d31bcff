"""Where the processes of a run live: start, stop, probe, logs. This is the executor of this machine."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from flowgrpo.runs import layout, process
from flowgrpo.runs.runner import GRACE_SECONDS
from storage.locks import FileLock, is_held

Liveness = Literal["alive", "orphaned", "gone"]
TRAINER = (sys.executable, "-m", "flowgrpo.runs.train")
LAUNCH_VARIABLE = "FLOWGRPO_LAUNCH"
"""A launcher that starts several processes: accelerate launch --config_file configs/several_gpus.yaml."""


def trainer_command() -> tuple[str, ...]:
    """The trainer's command, behind the launcher that the environment names."""
    launcher = shlex.split(os.environ.get(LAUNCH_VARIABLE, ""))
    return (*launcher, "-m", "flowgrpo.runs.train") if launcher else TRAINER


class LocalExecutor:
    """Runs on this machine: one detached shim per run, which a restart of the web does not touch.

    Args:
        home: the data folder.
        trainer: command without the arguments that name the run; `trainer_command` by default.
        grace_seconds: how long a run may take to stop before it is killed.
    """

    def __init__(
        self,
        home: Path,
        *,
        trainer: Sequence[str] | None = None,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self.home = home
        self.trainer = tuple(trainer or trainer_command())
        self.grace_seconds = grace_seconds
        self._shims: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, run_id: str, attempt: int) -> None:
        """Starts a shim that holds the run's lock from its first instruction on.

        Raises:
            BlockingIOError: processes of an earlier attempt still hold the lock.
            OSError: the process cannot be started; the lock is free.
        """
        lock = FileLock(layout.run_lock(self.home, run_id))
        if not lock.acquire(blocking=False):
            raise BlockingIOError(f"processes of an earlier attempt of run {run_id} are still there")
        try:
            self._shims[run_id] = self._spawn(run_id, attempt, lock)
        finally:
            lock.hand_over()  # where no process was started, nobody holds it any more

    def _spawn(self, run_id: str, attempt: int, lock: FileLock) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "flowgrpo.runs.runner", "--home", str(self.home)]
        command += ["--lock-fd", str(lock.fd), "--grace", str(self.grace_seconds), run_id, str(attempt)]
        with layout.run_log(self.home, run_id).open("ab") as log:
            return subprocess.Popen(
                [*command, "--", *self.trainer],
                pass_fds=(lock.fd,),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=process.child_environment(process.RUN_MARK, process.mark_of(self.home, run_id)),
            )

    def probe(self, run_id: str, pid: int | None, pid_start: int | None) -> Liveness:
        """`alive`: the shim is there; `orphaned`: only what it started is; `gone`: nothing is."""
        self.reap()
        if not is_held(layout.run_lock(self.home, run_id)):
            return "gone"
        if pid is None or process.is_alive(pid, pid_start):
            return "alive"
        return "orphaned"

    def stop(self, run_id: str) -> int:
        """Ends every process of the run at once; returns how many. A polite stop is the row's flag."""
        return process.end_all(lambda: process.marked(process.RUN_MARK, process.mark_of(self.home, run_id)))

    def logs(self, run_id: str, lines: int = 40) -> list[str]:
        """The end of the run's log."""
        return layout.log_tail(layout.run_log(self.home, run_id), lines)

    def reap(self) -> None:
        """Collects shims that ended while this process was their parent."""
        self._shims = {run_id: shim for run_id, shim in self._shims.items() if shim.poll() is None}

    def let_go(self) -> None:
        """Before this process ends: waits for shims that are on their way out; the others run on."""
        for run_id, shim in self._shims.items():
            if not is_held(layout.run_lock(self.home, run_id)):
                shim.wait(timeout=10.0)
        self.reap()
        for shim in self._shims.values():
            shim.returncode = 0  # else Popen complains that nobody waits for it, which is what is meant
        self._shims.clear()

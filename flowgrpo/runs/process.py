"""Processes by identity: who they are, which belong to a run, and how to end all of them.

A pid alone is recycled; a process is known by (boot, pid, start). The tree of a run is known by a mark in
its environment: `setsid`, a double fork or a dead parent leave a process group, but not that.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from flowgrpo.runs.environment import needed
from storage import postgres

RUN_MARK = "FLOWGRPO_RUN"
"""Environment variable of every process of a run; its value is that of `mark_of`."""
WORKER_MARK = "FLOWGRPO_WORKER"
"""Environment variable of an engine worker and its children; its value names data folder and device."""
HOST_VARIABLE = "FLOWGRPO_HOST"
"""Names this host among those that share a data folder, where its own name would not last."""
_MACHINE_ID = Path("/etc/machine-id")
_PR_SET_CHILD_SUBREAPER = 36
_REPOSITORY = Path(__file__).resolve().parents[2]


def mark_of(home: Path, run_id: str) -> str:
    """What marks the processes of a run: the folder too, since a copy of it has a run of the same id."""
    return f"{home.resolve()}:{run_id}"


def host_of(home: Path) -> str:
    """The name under which runs and workers of this data folder stand in its rows.

    Drawn once from the machine's name and kept in the folder: a machine that is renamed, or a container
    made anew, finds what its predecessor left. Where the rows are a server's, several hosts may share the
    folder, and each says its own.
    """
    if postgres.is_asked_for():
        return _own_name()
    path = home / "locks" / "host"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"host.{os.getpid()}")
        with draft.open("w") as file:
            file.write(socket.gethostname())
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)  # unlike a rename, the first of two processes wins
        draft.unlink()
    return path.read_text()


def _own_name() -> str:
    """What FLOWGRPO_HOST says, else the machine's name and what tells machines of one name apart."""
    name = os.environ.get(HOST_VARIABLE, "").strip()
    if not name:
        machine = _MACHINE_ID.read_bytes().strip() if _MACHINE_ID.exists() else b""
        name = socket.gethostname() + (f"-{hashlib.sha256(machine).hexdigest()[:6]}" if machine else "")
    return re.sub(
        r"[^\w.-]", "-", name
    )  # it is the name of a folder, and a colon ends it in names of workers


def boot_id() -> str:
    """Changes at every boot, so that a pid of the last boot is never taken for one of this."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else str(int(psutil.boot_time()))


def start_of(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (seconds without /proc); None when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists():
            return int(stat.read_text().rpartition(")")[2].split()[19])
        return int(psutil.Process(pid).create_time())
    except (psutil.Error, OSError):
        return None


def is_alive(pid: int, start: int | None) -> bool:
    """Whether that very process still runs; a zombie does not."""
    try:
        return start_of(pid) == start and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def become_subreaper() -> None:
    """Orphaned descendants are re-parented to this process instead of init (on Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def child_environment(mark: str, value: str, *, fetches: bool = False) -> dict[str, str]:
    """What of this process's environment a child needs, with the mark, and the path of our packages.

    Args:
        fetches: whether the child fetches models, so that it may have the token of the hub.
    """
    passed = needed(os.environ, fetches=fetches)
    # A log is read by people, line by line and at once: no buffering, no progress bars.
    always = {"PYTHONUNBUFFERED": "1", "TQDM_DISABLE": "1", "DIFFUSERS_DISABLE_REMOTE_CODE": "1"}
    return _allocator() | passed | _importable() | {mark: value} | always


def _importable() -> dict[str, str]:
    paths = [str(_REPOSITORY), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _allocator() -> dict[str, str]:
    """On a GPU, blocks that grow: sampling and learning want other sizes, and the gaps between fixed blocks
    took up to 60% more of the card than the tensors (docs/benchmarks.md). What a person has set stands.
    """
    if sys.platform != "linux" or "PYTORCH_CUDA_ALLOC_CONF" in os.environ:
        return {}
    return {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}


def marked(mark: str, value: str) -> list[psutil.Process]:
    """Live processes of this user whose environment carries the mark, other than this one."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(mark) == value and _runs(process):
                found.append(process)
    return found


def descendants() -> list[psutil.Process]:
    """Live processes below this one, re-parented ones included."""
    return [process for process in psutil.Process().children(recursive=True) if _runs(process)]


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def end_all(find: Callable[[], list[psutil.Process]], *, seconds: float = 10.0) -> int:
    """Kills what `find` returns until it returns nothing; returns how many processes were killed.

    Raises:
        TimeoutError: some outlived SIGKILL that long, which only the kernel can cause.
    """
    killed: set[int] = set()
    deadline = time.monotonic() + seconds
    while alive := find():
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {[p.pid for p in alive]} outlive SIGKILL for {seconds:.0f} s")
        for process in alive:
            killed.add(process.pid)
            with suppress(psutil.Error):
                process.kill()
        time.sleep(0.02)
    return len(killed)


def signal_group(group: int, number: signal.Signals) -> None:
    """Signals a process group; a group that has gone is no error."""
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def reap_orphans() -> None:
    """Collects ended children that nobody waits for. Only for a subreaper without other `Popen` objects."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass

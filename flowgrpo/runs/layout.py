"""Where the files of runs and workers stand inside the data folder."""

from __future__ import annotations

from pathlib import Path

from flowgrpo.runs import process
from storage import postgres
from storage.log_files import end_of


def run_folder(home: Path, run_id: str) -> Path:
    """Folder of one run: config, log, metrics and checkpoints."""
    return home / "runs" / run_id


def run_lock(home: Path, run_id: str) -> Path:
    """Held by every process of the run's tree: free means that all of them are gone."""
    return run_folder(home, run_id) / "runner.lock"


def run_log(home: Path, run_id: str) -> Path:
    """Everything that the run's processes wrote to stdout and stderr, all attempts in one file."""
    return run_folder(home, run_id) / "log.txt"


def reason_file(home: Path, run_id: str) -> Path:
    """The one sentence with which the trainer explains why it ended early."""
    return run_folder(home, run_id) / "reason.txt"


def code_file(home: Path, run_id: str) -> Path:
    """The trainer's exit code where it ended early: a launcher between it and the shim has one of its own."""
    return run_folder(home, run_id) / "exit_code.txt"


def config_file(home: Path, run_id: str) -> Path:
    """Every setting of the run and how it was made, for `app.py run`; written when an attempt begins."""
    return run_folder(home, run_id) / "config.yaml"


def checkpoints_folder(home: Path, run_id: str) -> Path:
    """Parent of the run's checkpoint folders, each named by its update."""
    return run_folder(home, run_id) / "checkpoints"


def head_file(home: Path, version: str) -> Path:
    """A preference head, named by what it says."""
    return home / "heads" / f"{version}.safetensors"


def rewards_folder(home: Path) -> Path:
    """Fetched heads of rewards, each named by its hash."""
    return home / "models" / "rewards"


def host_folder(home: Path) -> Path:
    """Locks and logs of this host's processes: several hosts may share a data folder, not a device."""
    locks = home / "locks"
    return locks / process.host_of(home) if postgres.is_asked_for() else locks


def worker_lock(home: Path, device: str) -> Path:
    """Held by the engine worker of one device."""
    return host_folder(home) / f"worker-{device.replace(':', '-')}.lock"


def worker_log(home: Path, device: str) -> Path:
    """What the engine worker wrote, newest last."""
    return host_folder(home) / f"worker-{device.replace(':', '-')}.log"


def engine_memory(home: Path, device: str) -> Path:
    """What the engine has taken of a device at most, in bytes."""
    return host_folder(home) / f"engine-memory-{device}.txt"


def dispatcher_lock(home: Path) -> Path:
    """Held by the one dispatcher of this host that acts on the runs of this data folder."""
    return host_folder(home) / "dispatcher.lock"


def engines_lock(home: Path) -> Path:
    """Held by the one dispatcher of this host that keeps the engine workers of this data folder alive."""
    return host_folder(home) / "engines.lock"


def evaluation_folder(home: Path, job_id: str) -> Path:
    """Files of an evaluation's result: tables and a plot."""
    return home / "evaluations" / job_id


def log_tail(path: Path, lines: int = 40, max_bytes: int = 64 * 1024) -> list[str]:
    """The last lines of a log without control characters; empty when there is no file."""
    text = end_of(path, max_bytes).decode("utf-8", errors="replace")
    printable = ("".join(c for c in line if c.isprintable() or c == "\t") for line in text.splitlines())
    return list(printable)[-lines:]

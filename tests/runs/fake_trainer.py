"""A trainer that learns nothing and behaves as its first argument says: the shim is tried in seconds."""

from __future__ import annotations

import faulthandler
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def main() -> int:
    mode, home, run_id = sys.argv[1], Path(sys.argv[3]), sys.argv[4]
    folder = home / "runs" / run_id
    code = ends_early(mode, folder)
    return lives(mode, folder) if code is None else code


def ends_early(mode: str, folder: Path) -> int | None:
    """The exit code of those that do one thing and go; None for the others."""
    if mode == "crash":
        for line in range(60):
            sys.stderr.write(f"line {line}\n")
        raise RuntimeError("the fake trainer fell over")
    if mode == "blab":  # all that it knows, in every way that there is
        print(dict(os.environ), flush=True)
        os.write(2, "\n".join(os.environ.values()).encode() + b"\n")
        raise RuntimeError(
            f"refused with {os.environ.get('CANARY_TOKEN')} by {os.environ.get('HTTPS_PROXY')}"
        )
    if mode.isdigit():
        (folder / "reason.txt").write_text(f"The trainer chose to end with {mode}.")
        return int(mode)
    if mode == "orphan":  # a grandchild whose parent has gone and which left session and descriptors behind
        subprocess.run(["sh", "-c", f"setsid sleep 600 & echo $! > {folder}/child.pid"], check=True)
        return 0
    return None


def lives(mode: str, folder: Path) -> int:
    """Runs until it is told to end, or is ended."""
    if mode in ("polite", "chatty", "stuck"):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    if mode in ("deaf", "setsid", "stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode == "setsid":
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        (folder / "child.pid").write_text(str(child.pid))
    if mode == "stubborn":
        leave_children()
    if mode == "stuck":
        faulthandler.register(signal.SIGUSR1)
    (folder / "trainer.pid").write_text(str(os.getpid()))
    parent = os.getppid()
    for number in itertools.count():
        if mode == "done" or (mode in ("polite", "chatty") and os.getppid() != parent):
            return 75 if mode != "done" else 0
        if mode == "chatty":
            os.write(1, f"line {number}\n".encode())
        time.sleep(0.002 if mode == "chatty" else 0.05)
    return 0


def leave_children() -> None:
    """One that ignores SIGTERM, one in a session of its own, one without a parent, one that is stopped."""
    subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 600"])
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    subprocess.run(["sh", "-c", "setsid sh -c \"trap '' TERM; sleep 600\" >/dev/null 2>&1 &"], check=True)
    os.kill(subprocess.Popen(["sleep", "600"]).pid, signal.SIGSTOP)


if __name__ == "__main__":
    sys.exit(main())

"""A trainer that learns nothing and behaves as its first argument says: the shim is tried in seconds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def main() -> int:
    mode, home, run_id = sys.argv[1], Path(sys.argv[3]), sys.argv[4]
    folder = home / "runs" / run_id
    if mode == "crash":
        for line in range(60):
            sys.stderr.write(f"line {line}\n")
        raise RuntimeError("the fake trainer fell over")
    if mode.isdigit():
        (folder / "reason.txt").write_text(f"The trainer chose to end with {mode}.")
        return int(mode)
    if mode == "polite":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    if mode in ("deaf", "setsid"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode == "setsid":
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        (folder / "child.pid").write_text(str(child.pid))
    if mode == "orphan":  # a grandchild whose parent has gone and which left session and descriptors behind
        subprocess.run(["sh", "-c", f"setsid sleep 600 & echo $! > {folder}/child.pid"], check=True)
        return 0
    (folder / "trainer.pid").write_text(str(os.getpid()))
    parent = os.getppid()
    while mode != "done":
        time.sleep(0.05)
        if mode == "polite" and os.getppid() != parent:
            return 75
    return 0


if __name__ == "__main__":
    sys.exit(main())

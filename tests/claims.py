"""Many processes that claim runs at the same time: each run must be claimed exactly once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from storage import checkpoints, engine, runs
from storage.engine import Database
from storage.models import RunAttempt

CLAIM = """
import multiprocessing, sys
from pathlib import Path
from storage import runs
from storage.engine import open_database

def claim(home, host, wanted, all_ready):
    db, claimed = open_database(home), []
    all_ready.wait()
    while len(claimed) < wanted:
        run = runs.claim_run(db, host=host, boot_id="boot")
        if run is None:
            break
        claimed.append(run.number)
        runs.move(db, run.id, to="failed", from_states=("starting",), attempt=run.attempt)
    print("".join(f"{number}\\n" for number in claimed), end="", flush=True)

fork = multiprocessing.get_context("fork")  # one import for all: nothing is open and no thread runs yet
home, processes, each = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
all_ready = fork.Barrier(processes)
for number in range(processes):
    fork.Process(target=claim, args=(home, f"host {number}", each, all_ready)).start()
"""


def claim_at_once(db: Database, url: str | None, processes: int, each: int) -> None:
    """So many processes claim so many runs each, all that there are; fails where one was claimed twice."""
    base = checkpoints.register_base(db, name="starter", source="x", family="sdxl")
    wanted: dict[str, Any] = {"owner_id": "local", "parent_checkpoint_id": base.id, "config": {}}
    numbers = [runs.create_run(db, name="a", **wanted).number for _ in range(processes * each)]
    command = [sys.executable, "-c", CLAIM, str(db.home), str(processes), str(each)]
    environment = os.environ | ({"DATABASE_URL": url} if url else {})
    root = Path(engine.__file__).parents[1]
    said = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    claimed = sorted(map(int, said.stdout.split()))
    assert claimed == numbers
    assert [run.attempt for run in runs.list_runs(db)] == [1] * len(numbers)
    with db.read() as session:
        assert session.query(RunAttempt).count() == len(numbers)

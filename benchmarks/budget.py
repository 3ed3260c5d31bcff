"""What the plan of a run says, against what the run takes: `python -m benchmarks.budget`.

The plan is made in one process (`run --dry-run`), the run trains in another one, whose peak memory the system
counts. Budget: within 20% either way.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import Line, publish
from flowgrpo.config import RunConfig
from flowgrpo.presets import STARTER_PRESETS
from flowgrpo.runs import layout, process
from storage import checkpoints, runs
from storage.engine import Database, open_database
from ui.defaults import starter_prompts

ROOT = Path(__file__).parent.parent
STARTER = ROOT / "flowgrpo" / "starter" / "weights" / "pipeline"


def plan(home: Path, config: RunConfig) -> dict[str, Any]:
    """What `run --dry-run --json` says."""
    file = home / "run.json"
    file.write_text(config.model_dump_json())
    command = ["app.py", "run", str(file), "--dry-run", "--json", "--home", str(home)]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True, text=True)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def train(db: Database, config: RunConfig) -> tuple[float, int]:
    """Seconds of the trainer's work, its loading included, and its peak of memory in bytes."""
    parent, document = checkpoints.named_checkpoint(db, "starter"), config.model_dump(mode="json")
    made = runs.create_run(db, name="plan", owner_id="local", parent_checkpoint_id=parent.id, config=document)
    runs.claim_run(db, host=process.host_of(db.home), boot_id=process.boot_id())
    runs.move(db, made.id, to="running", from_states=("starting",), attempt=1)
    layout.run_folder(db.home, made.id).mkdir(parents=True)
    started = time.perf_counter()
    command = ["-m", "flowgrpo.runs.train", "--home", str(db.home), "--device", "cpu", made.id, "1"]
    trainer = subprocess.Popen([sys.executable, *command], cwd=ROOT, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(trainer.pid, 0)
    trainer.returncode = os.waitstatus_to_exitcode(status)
    if trainer.returncode:
        raise SystemExit(f"The run ended with {trainer.returncode}.")
    return time.perf_counter() - started, used.ru_maxrss * 1024


def lines(said: dict[str, Any], seconds: float, peak: int, import_seconds: float) -> list[Line]:
    """Both, and how far apart they are."""
    taken = seconds - import_seconds
    return [
        Line("time of the run, its imports not counted", taken, "s"),
        Line("time that the plan told", said["seconds"], "s"),
        Line("time, told to taken: apart by", abs(said["seconds"] / taken - 1) * 100, "%", 20),
        Line("peak memory of the trainer", peak / 2**20, "MiB"),
        Line("peak memory that the plan told", said["memory"]["peak_bytes"] / 2**20, "MiB"),
        Line("memory, told to taken: apart by", abs(said["memory"]["peak_bytes"] / peak - 1) * 100, "%", 20),
    ]


def _import_seconds() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import flowgrpo.runs.train"], cwd=ROOT, check=True)
    return time.perf_counter() - started


def main() -> None:
    """Plans a run of the starter, then runs it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=5)
    updates = parser.parse_args().updates
    train_prompts, held_out = starter_prompts()
    preset = STARTER_PRESETS["fast and faithful"](tuple(train_prompts))
    config = preset.model_copy(update={"num_updates": updates, "held_out_prompts": tuple(held_out)})
    imports = _import_seconds()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        db = open_database(home)
        checkpoints.register_base(db, name="starter", source=str(STARTER), family="sdxl")
        said = plan(home, config)
        seconds, peak = train(db, config)
        db.close()
    publish("budget", lines(said, seconds, peak, imports))


if __name__ == "__main__":
    main()

"""Resident memory of the web, of the engine worker after a group, and of the trainer at its peak."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.common import Line, Studio, publish, studio
from flowgrpo.config import SamplingConfig
from flowgrpo.presets import fast_and_faithful
from flowgrpo.runs.headless import images_of, wait_for_worker
from flowgrpo.runs.worker import WEIGHTS
from flowgrpo.starter.dataset import plan
from flowgrpo.starter.portraits import caption
from storage import groups, runs
from storage.checkpoints import list_checkpoints
from storage.engine import Database, open_database

MB = 1e6


def main() -> None:
    if not (WEIGHTS / "pipeline").is_dir():
        sys.exit("the starter's weights are missing: make them by python -m flowgrpo.starter.build")
    prompts = tuple(caption(attributes) for attributes in plan("bench", 8))
    with tempfile.TemporaryDirectory() as folder, studio(Path(folder) / "home") as server:
        db = open_database(Path(folder) / "home")
        wait_for_worker(db)
        base = list_checkpoints(db)[0].id
        config = SamplingConfig().model_dump()
        group = groups.request_group(
            db, prompt=prompts[0], checkpoint_id=base, config=config, seeds=list(range(8))
        )
        images_of(db, group.id)
        worker = _resident(server.children("flowgrpo.runs.worker"))
        trainer = _peak_of_run(db, server, prompts, base)
        web = server.process.memory_info().rss
        db.close()
    publish(
        "memory",
        [
            Line("web process, a studio in use", web / MB, "MB", 400.0),
            Line("engine worker after a group of 8", worker / MB, "MB", 2500.0),
            Line("trainer, highest over two updates of 4 groups of 16", trainer / MB, "MB", 2500.0),
        ],
    )


def _resident(processes: list[psutil.Process]) -> int:
    return max((process.memory_info().rss for process in processes), default=0)


def _peak_of_run(db: Database, server: Studio, prompts: tuple[str, ...], base: str) -> int:
    config = fast_and_faithful(prompts, num_updates=2).model_dump(mode="json")
    run = runs.create_run(db, name="bench", owner_id="local", parent_checkpoint_id=base, config=config)
    peak = 0
    while runs.get_run(db, run.id).state not in runs.AT_REST:
        found = server.children("flowgrpo.runs.train")
        peak = max(peak, _highest(found))
        time.sleep(0.2)
    assert runs.get_run(db, run.id).state == "completed", runs.get_run(db, run.id).reason
    return peak


def _highest(processes: list[psutil.Process]) -> int:
    try:
        return _resident(processes)
    except psutil.NoSuchProcess:  # it ended between two looks
        return 0


if __name__ == "__main__":
    main()

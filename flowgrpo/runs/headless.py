"""The studio's engine without a browser: ask for groups and runs by rows, wait for what comes of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch
from jaxtyping import UInt8
from torch import Tensor

from flowgrpo.runs.executors import trainer_command
from flowgrpo.runs.keeper import WORKER
from flowgrpo.runs.local import POLL_SECONDS, dispatching, follow_groups, follow_run
from flowgrpo.runs.pictures import read_png
from storage import blobs, groups, runs, workers
from storage.engine import Database
from storage.models import Run

START_SECONDS: Final = 600.0
"""A worker that takes longer than this to load the starter is broken, not slow."""


@contextmanager
def engine(db: Database, weights: Path) -> Iterator[None]:
    """The dispatcher with an engine worker, as `app.py serve` has it; nothing is left running after it."""
    with dispatching(
        db,
        trainer=(*trainer_command(), "--weights", str(weights)),
        worker=(*WORKER, "--weights", str(weights)),
    ):
        try:
            yield
        finally:
            for run in runs.list_runs(db):
                if run.state not in runs.AT_REST:
                    runs.request_stop(db, run.id)
                    wait_for_run(db, run)


def wait_for_worker(db: Database) -> None:
    """Returns when an engine worker is warm; RuntimeError when none is after `START_SECONDS`."""
    end = time.monotonic() + START_SECONDS
    while not any(beat.state == "idle" for beat in workers.worker_status(db)):
        if time.monotonic() > end:
            raise RuntimeError(f"the engine worker did not start within {START_SECONDS / 60:.0f} minutes")
        time.sleep(POLL_SECONDS)


def wait_for_run(db: Database, run: Run) -> Run:
    """The run's row when it has ended or paused, in whatever state."""
    for _ in follow_run(db, run.id):
        pass
    return runs.get_run(db, run.id)


def images_of(db: Database, group_id: str) -> UInt8[Tensor, "seed 3 height width"]:
    """The images of a group when it is done; RuntimeError when it failed."""
    for _ in follow_groups(db, [group_id]):
        pass
    view = groups.get_group(db, group_id)
    if view.group.state != "done":
        raise RuntimeError(f"a group was not drawn: {view.group.reason or view.group.state}")
    return torch.stack([read_png(blobs.path_of(db.home, one.image.sha256)) for one in view.images])

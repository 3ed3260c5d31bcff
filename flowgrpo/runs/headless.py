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

from flowgrpo.runs.dispatcher import Dispatcher
from flowgrpo.runs.executors import TRAINER
from flowgrpo.runs.keeper import WORKER
from flowgrpo.runs.pictures import read_png
from storage import blobs, groups, runs, workers
from storage.engine import Database
from storage.models import Run

POLL_SECONDS: Final = 0.25
LIMIT_SECONDS: Final = 3600.0
"""What takes longer than this is broken, not slow."""


@contextmanager
def engine(db: Database, weights: Path) -> Iterator[None]:
    """The dispatcher with an engine worker, as `app.py serve` has it; nothing is left running after it."""
    dispatcher = Dispatcher(
        db,
        trainer=(*TRAINER, "--weights", str(weights)),
        worker=(*WORKER, "--weights", str(weights)),
    ).start()
    try:
        yield
    finally:
        for run in runs.list_runs(db):
            if run.state not in runs.ENDED:
                runs.request_stop(db, run.id)
                wait_for_run(db, run)
        dispatcher.stop()


def _waiting(what: str) -> Iterator[None]:
    """Yields until the limit, with a pause after each; raises RuntimeError then."""
    end = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < end:
        yield
        time.sleep(POLL_SECONDS)
    raise RuntimeError(f"{what} took longer than {LIMIT_SECONDS / 60:.0f} minutes")


def wait_for_worker(db: Database) -> None:
    """Returns when an engine worker is warm."""
    for _ in _waiting("the start of the engine worker"):
        if any(beat.state == "idle" for beat in workers.worker_status(db)):
            return


def wait_for_run(db: Database, run: Run) -> Run:
    """The run's row when it has ended, in whatever state."""
    for _ in _waiting("the run"):
        now = runs.get_run(db, run.id)
        if now.state in runs.ENDED:
            return now
    raise AssertionError("unreachable: waiting ends with an error")


def images_of(db: Database, group_id: str) -> UInt8[Tensor, "seed 3 height width"]:
    """The images of a group when it is done; RuntimeError when it failed."""
    for _ in _waiting("a group"):
        view = groups.get_group(db, group_id)
        if view.group.state in ("failed", "canceled"):
            raise RuntimeError(f"a group was not drawn: {view.group.reason}")
        if view.group.state == "done":
            break
    return torch.stack([read_png(blobs.path_of(db.home, one.image.sha256)) for one in view.images])

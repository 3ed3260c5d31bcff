"""The real dispatcher, shim and trainer together, once."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from flowgrpo.runs.dispatcher import Dispatcher
from flowgrpo.runs.local import follow_run
from storage import checkpoints, runs
from storage.engine import Database
from storage.models import Checkpoint
from tests.runs.helpers import assert_all_gone, new_run, wait_for

TRAINER = (sys.executable, "-m", "flowgrpo.runs.train", "--device", "cpu")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_whose_shim_is_killed_goes_on_by_itself_and_completes(db: Database, tiny: Checkpoint) -> None:
    run = new_run(db, tiny, checkpoint_every=1, num_updates=8, samples=0)
    dispatcher = Dispatcher(db, devices=(), trainer=TRAINER).start()
    try:
        wait_for(lambda: checkpoints.checkpoints_of_run(db, run.id), seconds=300.0, what="a checkpoint")
        (attempt,) = runs.attempts_of(db, run.id)
        os.kill(attempt.pid or 0, signal.SIGKILL)
        *_, last = follow_run(db, run.id)
        assert (last.state, last.update) == ("completed", 8)
        history = [event.to_state for event in runs.events(db, run.id) if event.to_state]
        assert history == [
            "queued", "starting", "running", "lost", "queued", "starting", "running", "completed",
        ]  # fmt: skip
        assert [c.update for c in checkpoints.checkpoints_of_run(db, run.id)] == list(range(1, 9))
        assert_all_gone(db, run)
    finally:
        dispatcher.stop()
        dispatcher.executor.stop(run.id)

"""What the tests of runs share: patience for processes, fake trainers, a tiny base."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from flowgrpo.manifest import sha256_of
from flowgrpo.runs import layout, process
from flowgrpo.runs.dispatcher import Dispatcher
from flowgrpo.runs.process import RUN_MARK, marked
from flowgrpo.runs.train import main as trainer_main
from flowgrpo.runs.train import run_attempt
from flowgrpo.runs.worker import WEIGHTS
from storage import runs
from storage.engine import Database
from storage.models import Checkpoint, Run

T = TypeVar("T")
FAKE = Path(__file__).with_name("fake_trainer.py")
ROOT = Path(__file__).parents[2]
MakeDispatcher = Callable[..., Dispatcher]
SAMPLING: dict[str, Any] = {"num_steps": 2, "guidance_scale": 1.0, "width": 64, "height": 64}
"""The cheapest group that has everything."""


def wait_for(
    condition: Callable[[], T | None],
    *,
    seconds: float = 60.0,
    what: str = "the condition",
    every: float = 0.03,
) -> T:
    """Returns the first true value of `condition`; fails the test when there is none in time.

    Args:
        every: seconds between two looks, at first: a look takes from those who are waited for, and comes less
            often when they need seconds.
    """
    began = time.monotonic()
    while not (value := condition()):
        waited = time.monotonic() - began
        if waited > seconds:
            raise AssertionError(f"{what} did not come true within {seconds:.0f} s")
        time.sleep(max(every, min(waited / 50, 0.1)))
    return value


def fake(mode: str) -> tuple[str, ...]:
    """The command of a fake trainer."""
    return (sys.executable, "-S", str(FAKE), mode)


def state_of(db: Database, run: Run) -> str:
    return runs.get_run(db, run.id).state


def live_processes(db: Database, run: Run) -> list[int]:
    return [one.pid for one in marked(RUN_MARK, process.mark_of(db.home, run.id))]


def assert_all_gone(db: Database, run: Run) -> None:
    """The shim writes the end of the run a moment before it leaves itself."""
    wait_for(lambda: not live_processes(db, run), seconds=5.0, what="the end of every process of the run")


def tiny_config(**changes: Any) -> dict[str, Any]:
    """A run of four updates that takes a second or two."""
    config = {
        "prompts": ["red hair", "green hair", "glasses"],
        "held_out_prompts": ["blue hair"],
        "reward_weights": {"diversity": 1.0},
        "num_updates": 4,
        "checkpoint_every": 2,
        "sample_every": 2,
        "samples": 2,
        "seed": 3,
        "rollout": {"group_size": 3, "groups_per_update": 2, "num_steps": 3, "window_size": 1},
        "lora": {"rank": 2, "alpha": 2.0, "targets": ["to_q", "to_v"]},
    }
    return config | changes


def new_run(db: Database, parent: Checkpoint, **changes: Any) -> Run:
    return runs.create_run(
        db, name="tiny", owner_id="local", parent_checkpoint_id=parent.id, config=tiny_config(**changes)
    )


def begin(db: Database, run: Run) -> Run:
    """What dispatcher and shim do before the trainer starts."""
    claimed = runs.claim_run(db, host=process.host_of(db.home), boot_id=process.boot_id())
    assert claimed is not None
    assert claimed.id == run.id
    assert runs.move(db, run.id, to="running", from_states=("starting",), attempt=claimed.attempt)
    layout.run_folder(db.home, run.id).mkdir(parents=True, exist_ok=True)
    return runs.get_run(db, run.id)


def train(db: Database, run: Run, stop: threading.Event | None = None, weights: Path = WEIGHTS) -> None:
    """One attempt in this process."""
    run_attempt(db.home, run.id, "cpu", weights, stop or threading.Event())


def adapter_hashes(db: Database, run: Run, update: int) -> dict[str, str]:
    """SHA-256 of all that learns, in the checkpoint of an update."""
    folder = layout.checkpoints_folder(db.home, run.id) / f"{update:06d}"
    return {str(path.relative_to(folder)): sha256_of(path) for path in sorted(folder.rglob("*.safetensors"))}


def trainer_process(db: Database, run: Run, **environment: str) -> int:
    """One attempt in a process of its own; returns its exit code, negative for a signal.

    The process is forked from a server that has torch loaded already, which saves seconds each time.
    """
    return _exit_code(_forked(db, run, environment))


def trainer_process_killed_after(db: Database, run: Run, seconds: float, **environment: str) -> int:
    """One attempt that is killed some seconds after its start, whatever it does then."""
    trainer = _forked(db, run, environment)
    trainer.join(seconds)
    trainer.kill()
    return _exit_code(trainer)


def _forked(db: Database, run: Run, environment: dict[str, str]) -> BaseProcess:
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["flowgrpo.runs.train"])
    arguments = ["--home", str(db.home), "--device", "cpu", run.id, str(run.attempt)]
    trainer = server.Process(target=_trainer_main, args=(arguments, environment))
    trainer.start()
    return trainer


def _exit_code(trainer: BaseProcess) -> int:
    trainer.join()
    assert trainer.exitcode is not None
    return trainer.exitcode


def _trainer_main(arguments: list[str], environment: dict[str, str]) -> None:
    os.environ.update(environment)
    sys.exit(trainer_main(arguments))


def fail_and_begin_again(db: Database, run: Run) -> Run:
    """What shim, person and dispatcher do after a trainer has died."""
    runs.move(db, run.id, to="failed", from_states=("running",))
    runs.resume_run(db, run.id)
    return begin(db, run)

"""The trainer's process: one attempt of a run, from its row to its last checkpoint.

`accelerate launch -m flowgrpo.runs.train ...` starts it as well as plain Python does.

    python -m flowgrpo.runs.train --home H [--device auto] [--weights FOLDER] RUN_ID ATTEMPT
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import torch
from pydantic import ValidationError

from flowgrpo.config import RunConfig
from flowgrpo.runs import exits, hub, layout, made_with
from flowgrpo.runs.device import NoDeviceError, identity, resolve, use_all_cores, when_parent_goes
from flowgrpo.runs.patience import attempt_write
from flowgrpo.runs.residence import Residence
from flowgrpo.runs.stalls import WAITS
from flowgrpo.runs.team import follow
from flowgrpo.runs.trainer import Trainer
from flowgrpo.runs.worker import WEIGHTS
from flowgrpo.world import World, leave
from storage import runs
from storage.courtesy import BACKGROUND, step_back
from storage.engine import Database, open_database
from storage.errors import NotSavedError, SchemaError, StaleAttemptError
from storage.locks import GaveUpError
from storage.masking import log_to, mask
from storage.models import Run

ORPHAN_SECONDS = 8.0
"""How long a trainer whose shim has died may take to reach a safe point."""
_FELL_AWAY = "The device stopped answering: see nvidia-smi and the kernel's log, then resume the run."
_log = logging.getLogger(__name__)


def run_attempt(home: Path, run_id: str, device: str, weights: Path, stop: threading.Event) -> None:
    """Runs one attempt to its end, or this process's part of it.

    Raises:
        EndedError: with the exit code and the sentence, when it ends early.
    """
    try:
        with _device_trouble_told(), _on_the_device(home, run_id, device, stop) as residence:
            world = World.join()
            if not world.is_main:
                follow(world, resolve(world.device(device)))
                return
            with closing(open_database(home)) as db:
                _train(db, run_id, device, weights, stop, world, residence)
    except GaveUpError as error:
        reason = "The run stopped before it began: it waited for its device."
        raise exits.EndedError(exits.STOPPED, reason) from error
    except SchemaError as error:
        raise exits.EndedError(exits.SCHEMA_MISMATCH, str(error)) from error
    except (LookupError, ValueError) as error:
        _log.info("the settings cannot be used", exc_info=True)
        raise exits.EndedError(exits.BAD_CONFIG, str(error)) from error
    except NotSavedError as error:
        raise exits.EndedError(exits.DISK_FULL, str(error)) from error
    except OSError as error:
        if not exits.is_full_disk(error):
            raise
        sentence = f"{exits.sentence(exits.DISK_FULL)} What was saved before is intact."
        raise exits.EndedError(exits.DISK_FULL, sentence) from error
    except StaleAttemptError as error:
        raise exits.EndedError(exits.STOPPED, str(error)) from error


@contextmanager
def _device_trouble_told() -> Iterator[None]:
    """What is the device's fault, as the end of the run."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = f"The device ran out of memory while it loaded the run ({error}): free some, then resume."
        raise exits.EndedError(exits.OUT_OF_MEMORY, reason) from error
    except NoDeviceError as error:
        raise exits.EndedError(exits.NO_DEVICE, f"The device of the run is not there: {error}.") from error
    except torch.AcceleratorError as error:
        _log.error("the device failed", exc_info=True)
        raise exits.EndedError(exits.NO_DEVICE, f"{_FELL_AWAY} ({str(error).splitlines()[0]})") from error


@contextmanager
def _on_the_device(home: Path, run_id: str, device: str, stop: threading.Event) -> Iterator[Residence]:
    """Has the device to itself, once who was there has gone; the first of several processes says so.

    Raises:
        GaveUpError: the run is to stop first.
    """
    mine = resolve(World.device(device))
    residence = Residence(str(mine), identity(mine))
    with ExitStack() as stack:
        says: Callable[[], None] = _silent
        if residence.is_exclusive and os.environ.get("RANK", "0") == "0":
            db = stack.enter_context(closing(open_database(home)))
            attempt = runs.get_run(db, run_id).attempt
            says = partial(_say_that_it_waits, db, run_id, attempt)
        stack.enter_context(residence.hold(stop.is_set, says, is_urgent=True))
        yield residence


def _silent() -> None:
    """What all processes but the first say while they wait."""


def _say_that_it_waits(db: Database, run_id: str, attempt: int) -> None:
    phase = f"{WAITS} for its device, which the engine or another run still has"
    if attempt_write("waiting", lambda: runs.beat(db, run_id, attempt, phase=phase)) is False:
        raise GaveUpError


def _train(
    db: Database,
    run_id: str,
    device: str,
    weights: Path,
    stop: threading.Event,
    world: World,
    residence: Residence,
) -> None:
    run = runs.get_run(db, run_id)
    config = run_config(run)
    chosen = resolve(world.device(device))
    trainer = Trainer(db, run, config, device=chosen, weights=weights, stop=stop, world=world)
    trainer.residence = residence
    versions = trainer.stack.versions | trainer.grids.judges.versions
    made_with.write(db, run, config, versions, made_with.machine(chosen, world.size))
    if trainer.lead.is_alone:
        trainer.stack.ask_for_room(partial(make_room, trainer, residence))
    hub.go_offline()  # all that the run needs is loaded
    trainer.train()


def make_room(trainer: Trainer, residence: Residence) -> bool:
    """For a reward in a process of its own that ran out of memory: whether an engine went for it."""
    waits = partial(trainer.beats.say, f"{WAITS} for the engine to make room")
    try:
        has_gone = residence.send_away(trainer.stop.is_set, waits)
    except GaveUpError:
        return False
    if has_gone:
        trainer.watch.warn(
            f"After update {trainer.position.update} a reward ran out of memory beside the engine. "
            "The engine has made room and stays away until the run ends, and the reward is asked again."
        )
    return has_gone


def run_config(run: Run) -> RunConfig:
    """The run's settings; ValueError with one sentence when they cannot be used."""
    try:
        return RunConfig.model_validate(run.config)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the run"
        raise ValueError(f"The setting {where} cannot be used: {first['msg']}.") from error


def main(argv: list[str] | None = None) -> int:
    """Entry point of the trainer's process; returns the exit code of `flowgrpo.runs.exits`."""
    parser = argparse.ArgumentParser(description="Trains one attempt of a FlowGRPO run.")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda:0, ...")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder of the embedded rewards")
    parser.add_argument("run_id")
    parser.add_argument("attempt", type=int)
    given = parser.parse_args(argv)
    log_to(logging.StreamHandler(), "%(asctime)s trainer %(levelname)s %(message)s")
    faulthandler.register(signal.SIGUSR1)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    when_parent_goes(stop.set, grace_seconds=ORPHAN_SECONDS, exit_code=exits.STOPPED)
    use_all_cores()
    try:
        run_attempt(given.home, given.run_id, given.device, given.weights, stop)
    except exits.EndedError as ended:
        _log.info("%s", ended.reason)
        try:
            layout.reason_file(given.home, given.run_id).write_text(mask(ended.reason))
            layout.code_file(given.home, given.run_id).write_text(str(ended.code))
        except OSError as error:
            _log.warning("the reason is not written (%s): the exit code tells it", error)
        return ended.code
    return exits.DONE


if __name__ == "__main__":
    step_back(BACKGROUND)
    leave(main())

"""The trainer's process: one attempt of a run, from its row to its last checkpoint.

`accelerate launch -m flowgrpo.runs.train ...` starts it as well as plain Python does.

    python -m flowgrpo.runs.train --home H [--device auto] [--weights FOLDER] RUN_ID ATTEMPT
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import logging
import signal
import threading
from contextlib import closing
from pathlib import Path

import torch
from pydantic import ValidationError

from flowgrpo.config import RunConfig
from flowgrpo.runs import exits, layout
from flowgrpo.runs.device import resolve, use_all_cores, when_parent_goes
from flowgrpo.runs.team import follow
from flowgrpo.runs.trainer import Trainer
from flowgrpo.runs.worker import WEIGHTS
from flowgrpo.world import World, leave
from storage import runs
from storage.engine import Database, open_database
from storage.errors import NotSavedError, SchemaError, StaleAttemptError
from storage.models import Run

ORPHAN_SECONDS = 8.0
"""How long a trainer whose shim has died may take to reach a safe point."""
_log = logging.getLogger(__name__)


def run_attempt(home: Path, run_id: str, device: str, weights: Path, stop: threading.Event) -> None:
    """Runs one attempt to its end, or this process's part of it.

    Raises:
        EndedError: with the exit code and the sentence, when it ends early.
    """
    try:
        world = World.join()
        if not world.is_main:
            follow(world, resolve(world.device(device)))
            return
        with closing(open_database(home)) as db:
            _train(db, run_id, device, weights, stop, world)
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
    except torch.OutOfMemoryError as error:
        reason = f"The device ran out of memory while it loaded the run ({error}): free some, then resume."
        raise exits.EndedError(exits.OUT_OF_MEMORY, reason) from error


def _train(
    db: Database, run_id: str, device: str, weights: Path, stop: threading.Event, world: World
) -> None:
    run = runs.get_run(db, run_id)
    config = run_config(run)
    layout.run_folder(db.home, run_id).joinpath("config.json").write_text(json.dumps(run.config, indent=1))
    chosen = resolve(world.device(device))
    Trainer(db, run, config, device=chosen, weights=weights, stop=stop, world=world).train()


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
    logging.basicConfig(level=logging.INFO, format="%(asctime)s trainer %(levelname)s %(message)s")
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
            layout.reason_file(given.home, given.run_id).write_text(ended.reason)
            layout.code_file(given.home, given.run_id).write_text(str(ended.code))
        except OSError as error:
            _log.warning("the reason is not written (%s): the exit code tells it", error)
        return ended.code
    return exits.DONE


if __name__ == "__main__":
    leave(main())

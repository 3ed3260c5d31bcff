"""A real trainer is killed at every step of the commit of a checkpoint, and finds a full disk at each."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from flowgrpo.manifest import newest_valid
from flowgrpo.runs import exits, layout
from storage import checkpoints, runs
from storage.engine import Database, open_database
from storage.models import Checkpoint
from tests.flowgrpo.test_checkpoint import STEPS
from tests.runs.helpers import adapter_hashes, begin, fail_and_begin_again, new_run, trainer_process

POINTS = [*(f"ckpt.{step}:2" for step in STEPS), "checkpoint.save:2", "checkpoint.row:2", "checkpoint.done:2"]
"""Each at the second checkpoint, so that there is a first one to fall back to."""
SMALL = {"samples": 0, "checkpoint_every": 1, "num_updates": 3}
ONLY = int(os.environ.get("SOAK_ONLY", "1000"))


@pytest.fixture(scope="module")
def whole(pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = open_database(tmp_path_factory.mktemp("whole"))
    base = checkpoints.register_base(home, name="tiny", source=str(pipeline), family="sdxl")
    run = begin(home, new_run(home, base, **SMALL))
    assert trainer_process(home, run) == exits.DONE
    hashes = adapter_hashes(home, run, 3)
    home.close()
    return hashes


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fault", ["kill", "enospc"])
def test_a_run_that_is_broken_at_any_step_of_a_commit_goes_on_from_a_whole_checkpoint(
    db: Database, tiny: Checkpoint, whole: dict[str, str], fault: str, figure: Callable[[str, str], None]
) -> None:
    tried = 0
    for point in POINTS[:ONLY]:
        if fault == "enospc" and point.startswith(("checkpoint.row", "checkpoint.done")):
            continue  # only the row is written there, which waits for room
        run = begin(db, new_run(db, tiny, **SMALL))
        code = trainer_process(db, run, FAILPOINT=f"{point}:{fault}")
        assert code == (-signal.SIGKILL if fault == "kill" else exits.DISK_FULL), point
        assert newest_valid(layout.checkpoints_folder(db.home, run.id))[0] is not None, point
        again = fail_and_begin_again(db, run)
        assert trainer_process(db, again) == exits.DONE, point
        assert adapter_hashes(db, run, 3) == whole, point
        made = checkpoints.checkpoints_of_run(db, run.id)
        assert [(one.update, one.state) for one in made] == [(n, "committed") for n in (1, 2, 3)], point
        finish(db, again.id, again.attempt)
        tried += 1
    figure(f"a commit broken by {fault} at any step", f"{tried} of {tried} resumed with equal hashes")


def finish(db: Database, run_id: str, attempt: int) -> None:
    """What the shim does after a trainer that is done."""
    assert runs.move(db, run_id, to="completed", from_states=("running",), attempt=attempt)

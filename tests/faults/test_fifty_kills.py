"""Fifty lives: a run that is killed again and again, anywhere, ends with the bytes of one that never was."""

from __future__ import annotations

import signal
from random import Random
from typing import Any

import pytest

from flowgrpo.runs import exits
from storage import checkpoints, runs
from storage.engine import Database
from storage.models import Checkpoint, Run
from storage.run_rules import RunRules, set_run_rules
from tests.runs.helpers import (
    adapter_hashes,
    begin,
    fail_and_begin_again,
    new_run,
    trainer_process,
    trainer_process_killed_after,
)  # fmt: skip

NUM_KILLS, NUM_UPDATES = 50, 80
SMALL: dict[str, Any] = {
    "num_updates": NUM_UPDATES,
    "checkpoint_every": 2,
    "samples": 0,
    "rollout": {"group_size": 3, "groups_per_update": 1, "num_steps": 2, "window_size": 1},
}
IN_SAVES = (
    {"FAILPOINT": "ckpt.manifest:kill"},
    {"FAILPOINT": "ckpt.rename:kill"},
    {"FAILPOINT": "ckpt.sync_parent:kill"},
    {"FAILPOINT": "checkpoint.save:1:kill"},
    {"FAILPOINT": "checkpoint.row:1:kill"},
)
"""Each before, within or right after a save; every other life ends at one of them."""
AT_LATEST = {"FAILPOINT": "train.updated:3:kill"}
"""Where the others end on a machine that is fast: no life gets further than the next save, so that the run
outlives all kills on any machine."""


def one_life(db: Database, run: Run, chance: Random, number: int) -> int:
    """The exit code of an attempt that is killed at a random moment, or in a save."""
    if number % 2:
        return trainer_process(db, run, **chance.choice(IN_SAVES))
    return trainer_process_killed_after(db, run, chance.uniform(0.3, 1.8), **AT_LATEST)


@pytest.mark.timeout(900)
def test_fifty_kills_at_random_points_end_with_the_bytes_of_the_uninterrupted_run(
    db: Database, tiny: Checkpoint
) -> None:
    set_run_rules(db, RunRules(keep_all_up_to=NUM_UPDATES))
    whole = begin(db, new_run(db, tiny, **SMALL))
    assert trainer_process(db, whole) == exits.DONE
    runs.move(db, whole.id, to="completed", from_states=("running",))
    run, chance, kills = begin(db, new_run(db, tiny, **SMALL)), Random(0), 0
    while kills < NUM_KILLS:
        assert one_life(db, run, chance, kills) == -signal.SIGKILL, f"done after {kills} kills"
        kills += 1
        run = fail_and_begin_again(db, run)
    assert trainer_process(db, run) == exits.DONE
    assert adapter_hashes(db, run, NUM_UPDATES) == adapter_hashes(db, whole, NUM_UPDATES)
    made = checkpoints.checkpoints_of_run(db, run.id)
    assert [one.update for one in made if one.state == "committed"] == list(range(2, NUM_UPDATES + 1, 2))
    assert {m.update for m in runs.metrics_since(db, run.id, 0)} == set(range(1, NUM_UPDATES + 1))

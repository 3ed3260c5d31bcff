"""Whatever happens to a file of a checkpoint is seen: the one before is used, and the person is told."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import torch

from flowgrpo.config import RunConfig
from flowgrpo.learner import Learner
from flowgrpo.manifest import MANIFEST
from flowgrpo.runs.saving import Saver
from flowgrpo.runs.team import make_policy
from storage import checkpoints, runs
from storage.engine import Database
from storage.models import Checkpoint, Run
from tests.runs.helpers import begin, new_run, train

DAMAGES = ("truncate", "flip", "delete", "swap")


def damage(folder: Path, other: Path, name: str, how: str, chance: Random) -> bool:
    """Does it; False where the two checkpoints have the same file, so that a swap changes nothing."""
    path, data = folder / name, (folder / name).read_bytes()
    at = chance.randrange(len(data))
    if how == "truncate":
        path.write_bytes(data[:at])
    elif how == "flip":
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :])
    elif how == "delete":
        path.unlink()
    elif data == (other / name).read_bytes():
        return False
    else:
        path.write_bytes((other / name).read_bytes())
    return True


def trained(db: Database, base: Checkpoint) -> tuple[Run, Saver]:
    """A run of three updates with a checkpoint of each, and what a next attempt would load it with."""
    run = begin(db, new_run(db, base, num_updates=3, checkpoint_every=1, samples=0))
    train(db, run)
    config = RunConfig.model_validate(run.config)
    policy = make_policy(config, checkpoints.base_of(db, base).source, {}, torch.device("cpu"))
    return run, Saver(db, run, Learner(policy, config.update, config.algorithm))


def try_each(db: Database, base: Checkpoint, times: int) -> tuple[int, int]:
    """Damages each file of the newest checkpoint in each way, `times` over: (tried, found)."""
    run, saver = trained(db, base)
    newest, before = saver.folder / "000003", saver.folder / "000002"
    row = checkpoints.checkpoints_of_run(db, run.id)[-1]
    files = sorted(path.relative_to(newest).as_posix() for path in newest.rglob("*") if path.is_file())
    assert MANIFEST in files and len(files) == 6
    chance, tried, found = Random(0), 0, 0
    kept = newest.with_name("kept")
    shutil.copytree(newest, kept)
    for name in files * times:
        for how in DAMAGES:
            if not damage(newest, before, name, how, chance):
                continue
            tried += 1
            told = len(_warnings(db, run))
            went_on_from = saver.resume()
            is_told = len(_warnings(db, run)) == told + 1 and newest.name in _warnings(db, run)[-1]
            is_marked = checkpoints.get_checkpoint(db, row.id).state == "bad"
            found += went_on_from is not None and went_on_from[0] == 2 and is_told and is_marked
            shutil.rmtree(newest)
            shutil.copytree(kept, newest)
            checkpoints.mark_checkpoint(db, row.id, "committed")
    assert saver.resume() is not None and len(_warnings(db, run)) == tried
    return tried, found


def _warnings(db: Database, run: Run) -> list[str]:
    return [one.detail for one in runs.events(db, run.id) if one.kind == "warning"]


def test_each_file_of_a_checkpoint_damaged_in_each_way_is_found_and_the_one_before_is_used(
    db: Database, tiny: Checkpoint
) -> None:
    tried, found = try_each(db, tiny, times=1)
    assert tried >= 23  # four ways for six files; the adapter's settings are the same in both
    assert found == tried

"""A run that is killed anywhere goes on as if nothing had happened; damage is seen and gone around."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

from flowgrpo.runs import exits, layout
from storage import checkpoints, runs
from storage.engine import Database, open_database
from storage.models import Checkpoint, Run
from tests.runs.helpers import adapter_hashes, begin, fail_and_begin_again, new_run, trainer_process
from tests.storage.ready import ready

KILLS = {
    "between two updates": {"FAILPOINT": "train.updated:3:kill"},
    "before the first checkpoint": {"FAILPOINT": "train.updated:1:kill"},
    "before a save": {"FAILPOINT": "checkpoint.save:2:kill"},
    "in the middle of a save": {"FAILPOINT": "ckpt.manifest:kill"},
    "between files and rename": {"FAILPOINT": "ckpt.rename:kill"},
    "between files and row": {"FAILPOINT": "checkpoint.row:1:kill"},
}


@pytest.fixture(scope="module")
def whole(pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What four updates without interruption end with."""
    home = open_database(ready(tmp_path_factory.mktemp("whole")))
    base = checkpoints.register_base(home, name="tiny", source=str(pipeline), family="sdxl")
    run = begin(home, new_run(home, base))
    assert trainer_process(home, run) == exits.DONE
    hashes = adapter_hashes(home, run, 4)
    home.close()
    assert len(hashes) == 3
    return hashes


def _reason(db: Database, run: Run) -> str:
    return layout.reason_file(db.home, run.id).read_text()


@pytest.mark.parametrize("where", KILLS)
def test_a_trainer_killed_anywhere_ends_with_the_very_same_bytes(
    db: Database, tiny: Checkpoint, whole: dict[str, str], where: str
) -> None:
    run = begin(db, new_run(db, tiny))
    assert trainer_process(db, run, **KILLS[where]) == -signal.SIGKILL
    assert trainer_process(db, fail_and_begin_again(db, run)) == exits.DONE
    assert adapter_hashes(db, run, 4) == whole
    assert [c.update for c in checkpoints.checkpoints_of_run(db, run.id)] == [2, 4]
    assert {m.update for m in runs.metrics_since(db, run.id, 0)} == {1, 2, 3, 4}
    assert not list(layout.checkpoints_folder(db.home, run.id).glob(".tmp-*"))


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_damaged_checkpoint_is_gone_around_with_a_warning(
    db: Database, tiny: Checkpoint, whole: dict[str, str], damage: str
) -> None:
    run = begin(db, new_run(db, tiny, checkpoint_every=1))
    kill_after_three = {"FAILPOINT": "train.updated:4:kill"}
    assert trainer_process(db, run, **kill_after_three) == -signal.SIGKILL
    victim = layout.checkpoints_folder(db.home, run.id) / "000003" / "adapter" / "raw.safetensors"
    data = bytearray(victim.read_bytes())
    if damage == "gone":
        victim.unlink()
    else:
        data[len(data) // 2] ^= 1
        victim.write_bytes(data[:-10] if damage == "cut" else data)
    again = fail_and_begin_again(db, run)
    assert trainer_process(db, again) == exits.DONE
    warnings = [event.detail for event in runs.events(db, run.id) if event.kind == "warning"]
    assert len(warnings) == 1
    assert "raw.safetensors" in warnings[0]
    assert all(c.state == "committed" for c in checkpoints.checkpoints_of_run(db, run.id))
    assert adapter_hashes(db, run, 4) == whole


def test_a_full_disk_pauses_with_the_amount_and_leaves_the_last_checkpoint(
    db: Database, tiny: Checkpoint, whole: dict[str, str]
) -> None:
    run = begin(db, new_run(db, tiny))
    code = trainer_process(db, run, FAILPOINT="checkpoint.save:2:enospc")
    assert code == exits.DISK_FULL
    assert exits.state_after(code, stop_requested=False) == "paused"
    assert "MB are free; the checkpoint of update 2 is intact. Free some space" in _reason(db, run)
    assert trainer_process(db, fail_and_begin_again(db, run)) == exits.DONE
    assert adapter_hashes(db, run, 4) == whole


def test_too_little_room_is_seen_before_anything_is_written(db: Database, tiny: Checkpoint) -> None:
    run = begin(db, new_run(db, tiny))
    assert trainer_process(db, run, FLOWGRPO_DISK_RESERVE=str(10**18)) == exits.DISK_FULL
    assert "it needs 953,674,316" in _reason(db, run)
    assert "there is no checkpoint yet" in _reason(db, run)
    assert list(layout.checkpoints_folder(db.home, run.id).iterdir()) == []


def test_a_locked_database_delays_rows_but_never_ends_a_training(db: Database, tiny: Checkpoint) -> None:
    run = begin(db, new_run(db, tiny, samples=0))
    folder = layout.run_folder(db.home, run.id)
    done = threading.Event()

    def block() -> None:
        while not (folder / "metrics.jsonl").exists() and not done.wait(0.01):
            pass
        with db.write():
            done.wait(12.0)

    thread = threading.Thread(target=block)
    thread.start()
    code = trainer_process(db, run)
    done.set()
    thread.join()
    assert code == exits.DONE
    assert {m.update for m in runs.metrics_since(db, run.id, 0)} == {1, 2, 3, 4}
    assert [c.update for c in checkpoints.checkpoints_of_run(db, run.id)] == [2, 4]

"""Files of checkpoints that the rules let go: after the row, a folder or nothing, never the last whole."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from flowgrpo.manifest import committing, newest_valid
from flowgrpo.runs import exits, layout
from flowgrpo.runs.pruning import prune
from storage import checkpoints, runs
from storage.catalog import pin
from storage.engine import Database
from storage.models import Checkpoint, Run
from storage.run_rules import RunRules, set_run_rules
from tests.runs.helpers import begin, fail_and_begin_again, new_run, trainer_process

STRICT = RunRules(keep_all_up_to=0, keep_last=2, keep_every=0)


@pytest.fixture
def long_run(db: Database, run: Run) -> Run:
    """A run with four checkpoints, as files and rows."""
    set_run_rules(db, STRICT)
    now = begin(db, run)
    for update in range(1, 5):
        folder = layout.checkpoints_folder(db.home, run.id) / f"{update:06d}"
        with committing(folder, {"name": folder.name}) as temporary:
            (temporary / "weights").write_bytes(bytes([update]) * 100)
        checkpoints.commit_checkpoint(
            db, run_id=run.id, attempt=1, update=update, name=f"{update}",
            path=str(folder.relative_to(db.home)), sha256="0" * 64,
        )  # fmt: skip
    return now


def folders(db: Database, run: Run) -> list[str]:
    return sorted(path.name for path in layout.checkpoints_folder(db.home, run.id).iterdir())


def states(db: Database, run: Run) -> list[str]:
    return [one.state for one in checkpoints.checkpoints_of_run(db, run.id)]


def test_files_go_after_the_rows(db: Database, long_run: Run) -> None:
    assert prune(db, long_run) == [1, 2]
    assert states(db, long_run) == ["pruned", "pruned", "committed", "committed"]
    assert folders(db, long_run) == ["000003", "000004"]
    assert prune(db, long_run) == []


def test_what_a_process_marked_and_could_not_remove_is_removed_by_the_next(
    db: Database, long_run: Run
) -> None:
    with db.write() as session:
        for row in session.query(Checkpoint).filter(Checkpoint.update == 1):
            row.state = "pruned"
    assert prune(db, long_run) == [1, 2]


def test_nothing_goes_while_the_newest_is_damaged(db: Database, long_run: Run) -> None:
    """It is the one that a run would go on from: older ones are then what it falls back to."""
    (layout.checkpoints_folder(db.home, long_run.id) / "000004" / "weights").write_bytes(b"damaged")
    assert prune(db, long_run) == []
    assert folders(db, long_run) == [f"{update:06d}" for update in range(1, 5)]


def test_an_attempt_that_is_over_removes_nothing(db: Database, long_run: Run) -> None:
    runs.move(db, long_run.id, to="failed", from_states=("running",))
    runs.resume_run(db, long_run.id)
    begin(db, long_run)
    assert prune(db, long_run) == []


@pytest.mark.parametrize("where", ["prune.rows", "prune.files"])
def test_a_run_that_is_killed_while_it_prunes_goes_on_and_prunes_on(
    db: Database, tiny: Checkpoint, where: str
) -> None:
    set_run_rules(db, STRICT)
    run = begin(db, new_run(db, tiny, num_updates=5, checkpoint_every=1, samples=0))
    assert trainer_process(db, run, FAILPOINT=f"{where}:2:kill") == -signal.SIGKILL
    whole, _ = newest_valid(layout.checkpoints_folder(db.home, run.id))
    assert isinstance(whole, Path)
    assert trainer_process(db, fail_and_begin_again(db, run)) == exits.DONE
    assert folders(db, run) == ["000004", "000005"]
    assert states(db, run) == ["pruned"] * 3 + ["committed"] * 2


def three_checkpoints_that_were_all_kept(db: Database, tiny: Checkpoint) -> Run:
    """A run that was killed after three commits, begun again under rules that keep only the last two."""
    run = begin(db, new_run(db, tiny, num_updates=5, checkpoint_every=1, samples=0))
    assert trainer_process(db, run, FAILPOINT="train.updated:4:kill") == -signal.SIGKILL
    assert states(db, run) == ["committed"] * 3
    set_run_rules(db, STRICT)
    return fail_and_begin_again(db, run)


@pytest.mark.parametrize("where", ["checkpoint.save", "ckpt.write.optimizer.safetensors", "ckpt.rename"])
def test_a_commit_that_finds_the_disk_full_lets_go_what_the_rules_let_go_and_is_made(
    db: Database, tiny: Checkpoint, where: str
) -> None:
    run = three_checkpoints_that_were_all_kept(db, tiny)
    assert trainer_process(db, run, FAILPOINT=f"{where}:enospc") == exits.DONE
    gone = [(event.payload or {})["updates"] for event in runs.events(db, run.id) if event.kind == "pruned"]
    assert gone == [[1], [2], [3]]  # the first of them before the commit of update 4, the others after one
    assert folders(db, run) == ["000004", "000005"]
    assert newest_valid(layout.checkpoints_folder(db.home, run.id))[1] == []


def test_a_full_disk_pauses_a_run_all_of_whose_checkpoints_are_kept_and_takes_none(
    db: Database, tiny: Checkpoint
) -> None:
    run = three_checkpoints_that_were_all_kept(db, tiny)
    pin(db, checkpoints.checkpoints_of_run(db, run.id)[0].id)
    assert trainer_process(db, run, FAILPOINT="checkpoint.save:enospc") == exits.DISK_FULL
    assert folders(db, run) == ["000001", "000002", "000003"]
    assert states(db, run) == ["committed"] * 3
    reason = layout.reason_file(db.home, run.id).read_text()
    assert "the checkpoint of update 3 is intact. Free some space" in reason

"""A disk that is really full, a tmpfs of a few megabytes: sentences for people, and nothing is lost."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from sqlalchemy import text

from flowgrpo.manifest import newest_valid
from flowgrpo.runs import exits, layout, saving, trainer
from flowgrpo.runs.journal import Journal
from flowgrpo.runs.keeper import WorkerKeeper
from flowgrpo.runs.saving import RESERVE_VARIABLE
from flowgrpo.tensorfile import write_tensors
from storage import blobs, catalog, checkpoints, groups, ratings, runs
from storage.engine import Database, open_database
from storage.errors import NotSavedError
from storage.groups import GroupView
from storage.ratings import RatingInput
from storage.run_rules import RunRules, set_run_rules
from tests.runs.helpers import SAMPLING, begin, fail_and_begin_again, new_run, train, wait_for
from tests.storage.records import finished_group, noise_png
from tests.tiny import tiny_sdxl

DISK_MB = 12
FULL_SECONDS = 5.0
ROOM_FOR_ROWS = 64 * 2**10
"""Too little for a checkpoint."""
NOT_SAVED = re.compile("(?i)not saved.*: free some space, then try again")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own; only root may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "flowgrpo-test", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def db(disk: Path) -> Iterator[Database]:
    database = open_database(disk / "home")
    yield database
    database.close()


def fill(disk: Path) -> Path:
    """Takes every byte that is left; removing the file gives them back."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue
    assert os.statvfs(disk).f_bavail == 0
    return path


def refused(action: Callable[[], object]) -> None:
    """What the disk has no room for is refused in a sentence that says what to do."""
    with pytest.raises(NotSavedError, match=NOT_SAVED):
        action()


def test_a_full_disk_refuses_every_write_keeps_every_rating_and_goes_on_when_there_is_room(
    disk: Path, db: Database
) -> None:
    base = checkpoints.register_base(db, name="starter", source="x", family="sdxl")
    group = finished_group(db, base)
    best = group.images[0].image.id

    accepted: list[int] = []

    def vote(number: int) -> None:
        ratings.submit(db, "local", group.group.id, [_best(group.group.id, best, number)])

    def ask() -> None:
        groups.request_group(db, prompt="red hair" * 200, checkpoint_id=base.id, config=SAMPLING, seeds=[1])

    def ask_until_full() -> None:
        for _ in range(2_000):  # some fit into what the log has reserved
            ask()

    def vote_until_full() -> None:
        while len(accepted) < 2_000:
            vote(len(accepted))
            accepted.append(len(accepted))

    filler = fill(disk)
    refused(ask_until_full)
    refused(vote_until_full)
    refused(lambda: blobs.put_png(db.home, noise_png(128)))
    assert _num_ratings(db) == len(accepted)
    filler.unlink()
    vote(len(accepted))
    ask()
    assert _num_ratings(db) == len(accepted) + 1
    with db.read() as session:
        assert session.scalar(text("PRAGMA integrity_check")) == "ok"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_group_that_finds_the_disk_full_says_so_and_the_worker_draws_the_next_one(
    disk: Path, db: Database, tmp_path: Path
) -> None:
    source = tiny_sdxl(tmp_path / "pipeline")
    base = checkpoints.register_base(db, name="tiny", source=str(source), family="sdxl")
    keeper = WorkerKeeper(db, "cpu")

    def ask(**config: int) -> str:
        asked = SAMPLING | config
        return groups.request_group(
            db, prompt="red hair", checkpoint_id=base.id, config=asked, seeds=range(2)
        ).id

    def ended(group_id: str) -> GroupView | None:
        keeper.tick()
        view = groups.get_group(db, group_id)
        return view if view.group.state in ("done", "failed") else None

    try:
        unlucky = ask(num_steps=150)
        keeper.tick()
        wait_for(lambda: _phase(db, unlucky).startswith("sampling"), seconds=200.0, what="sampling")
        filler = fill(disk)
        time.sleep(FULL_SECONDS)
        filler.unlink()
        view = wait_for(lambda: ended(unlucky), seconds=100.0, what="the end of the group")
        lucky = ask()
        again = wait_for(lambda: ended(lucky), seconds=100.0, what="the next group")
    finally:
        keeper.stop()
    assert view.group.state == "failed"
    assert NOT_SAVED.search(view.group.reason or "")
    assert (again.group.state, len(again.images)) == ("done", 2)


@pytest.mark.parametrize("full_at", [0, 1])
def test_a_run_that_finds_the_disk_full_pauses_and_goes_on_when_there_is_room(
    disk: Path, db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_at: int
) -> None:
    monkeypatch.setenv(RESERVE_VARIABLE, "0")  # room for nobody but the checkpoint
    source = tiny_sdxl(tmp_path / "pipeline")
    base = checkpoints.register_base(db, name="tiny", source=str(source), family="sdxl")
    run = begin(db, new_run(db, base, sample_every=100))
    metrics = layout.run_folder(db.home, run.id) / "metrics.jsonl"
    fillers: list[Path] = []

    def fill_in_time(name: str) -> None:
        if name == "train.updated" and full_at and not fillers:
            fillers.append(fill(disk))

    if not full_at:
        fillers.append(fill(disk))
    monkeypatch.setattr(trainer, "failpoint", fill_in_time)
    with pytest.raises(exits.EndedError, match=r"(?i)free some space") as ended:
        train(db, run)
    assert ended.value.code == exits.DISK_FULL
    fillers[0].unlink()

    train(db, fail_and_begin_again(db, run))
    assert [row.update for row in checkpoints.checkpoints_of_run(db, run.id)] == [2, 4]
    assert set(_updates(metrics)) == {0, 1, 2, 3, 4}


def test_points_of_a_curve_that_met_a_full_disk_are_written_later(disk: Path, db: Database) -> None:
    base = checkpoints.register_base(db, name="starter", source="x", family="sdxl")
    run = begin(db, new_run(db, base))
    path = layout.run_folder(db.home, run.id) / "metrics.jsonl"
    journal = Journal(db, run.id, run.attempt, path)
    journal.record(1, {"loss": 0.5})
    filler = fill(disk)
    for update in range(2, 400):  # more than fits into the file's last page
        journal.record(update, {"loss": 0.5})
    assert set(_updates(path)) < set(range(1, 400))
    filler.unlink()
    journal.flush(must=True)
    assert set(_updates(path)) == set(range(1, 400))  # a line may stand there twice, none is missing
    assert len(runs.metrics_since(db, run.id, -1)) == 399


def test_a_checkpoint_that_meets_a_full_disk_while_it_is_written_pauses_the_run(
    disk: Path, db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny_sdxl(tmp_path / "pipeline")
    base = checkpoints.register_base(db, name="tiny", source=str(source), family="sdxl")
    run = begin(db, new_run(db, base, sample_every=100))
    monkeypatch.setattr(saving, "failpoint", lambda name: fill(disk) if name == "checkpoint.save" else None)
    with pytest.raises(exits.EndedError, match="The disk is too full for a checkpoint") as ended:
        train(db, run)
    assert ended.value.code == exits.DISK_FULL


def test_a_run_on_a_full_disk_goes_on_in_the_room_of_checkpoints_that_the_rules_let_go(
    disk: Path,
    db: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(RESERVE_VARIABLE, "0")
    source = tiny_sdxl(tmp_path / "pipeline")
    base = checkpoints.register_base(db, name="tiny", source=str(source), family="sdxl")
    lora = {"rank": 16, "alpha": 16.0, "targets": ["to_q", "to_v"]}
    run = begin(db, new_run(db, base, num_updates=7, checkpoint_every=1, samples=0, lora=lora))
    passed: list[str] = []

    def fill_up_at_the_sixth(name: str) -> None:
        passed.extend([name] if name == "checkpoint.save" else [])
        if len(passed) == 6 and not (disk / "filler").exists():
            set_run_rules(db, RunRules(keep_all_up_to=0, keep_last=2, keep_every=0))
            catalog.pin(db, checkpoints.checkpoints_of_run(db, run.id)[1].id)
            filler = fill(disk)
            os.truncate(filler, filler.stat().st_size - ROOM_FOR_ROWS)

    monkeypatch.setattr(saving, "failpoint", fill_up_at_the_sixth)
    train(db, run)
    left = [row.update for row in checkpoints.checkpoints_of_run(db, run.id) if row.state == "committed"]
    assert left == [2, 6, 7]
    tried_again = (
        "The disk is too full for the checkpoint of update 6: the files of the checkpoints of updates 1, 3"
    )
    assert any(tried_again in one.message for one in caplog.records)
    assert newest_valid(layout.checkpoints_folder(db.home, run.id))[1] == []


def test_tensors_that_the_disk_has_no_room_for_are_refused_as_the_system_refuses_them(disk: Path) -> None:
    filler = fill(disk)
    os.truncate(filler, filler.stat().st_size - ROOM_FOR_ROWS)
    with pytest.raises(OSError, match="tensors") as refusal:
        write_tensors(disk / "tensors", {"a": torch.zeros(ROOM_FOR_ROWS)})
    assert exits.is_full_disk(refusal.value)


def _updates(metrics: Path) -> list[int]:
    """The updates of a file of curves; a line that a full disk cut off counts for nothing."""
    lines = metrics.read_text().splitlines()
    return [json.loads(line)["update"] for line in lines if line.endswith("}")]


def _best(group_id: str, image_id: str, number: int) -> RatingInput:
    return RatingInput(f"vote-{number}", "local", group_id, "best", image_id)


def _num_ratings(db: Database) -> int:
    with db.read() as session:
        return session.scalar(text("SELECT count(*) FROM rating_event")) or 0


def _phase(db: Database, group_id: str) -> str:
    return groups.get_group(db, group_id).group.phase or ""

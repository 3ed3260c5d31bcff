"""Backups are whole, made while the database is in use, only when something changed, and thinned with age."""

from __future__ import annotations

import os
import resource
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storage import backup, backup_trouble, checkpoints, copies, engine, ratings, workers
from storage.backup import Backups, Plan, back_up, plan_of
from storage.backup_trouble import trouble_of
from storage.engine import Database, open_database
from storage.errors import DamagedError, NotSavedError
from storage.groups import GroupView
from storage.migrate import head_of
from storage.ratings import RatingInput
from storage.rotation import Retention
from storage.settings import put_setting
from storage.types import utc_now
from tests.runs.helpers import wait_for
from tests.storage.records import finished_group

pytestmark = pytest.mark.sqlite_only("a server's backup is made with pg_dump")

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def vote(db: Database, group: GroupView, number: int) -> None:
    ratings.rate(
        db, RatingInput(f"key-{number}", "local", group.group.id, "stars", group.images[0].image.id, 4)
    )


def names(db: Database) -> list[str]:
    return sorted(path.name for path in (db.home / "backups").glob("*"))


def test_a_backup_holds_every_rating_and_lies_alone(db: Database, group: GroupView) -> None:
    vote(db, group, 1)
    made = back_up(db, now=NOON)
    assert made is not None
    assert names(db) == ["studio-20260501T120000000000Z.db"]
    assert copies.verified(made.path) == copies.Content(head_of(), 1, 2)
    assert [one.at for one in copies.backups_of(db.home)] == [NOON]


def test_nothing_is_made_when_nothing_changed_but_signs_of_life(db: Database, group: GroupView) -> None:
    assert back_up(db, now=NOON) is not None
    workers.worker_beat(db, worker_id="host:cpu", pid=1, state="idle")
    assert back_up(db, now=NOON + timedelta(minutes=5)) is None
    vote(db, group, 1)
    assert back_up(db, now=NOON + timedelta(minutes=10)) is not None
    assert len(names(db)) == 2


def test_older_backups_are_thinned_and_those_before_a_migration_stay(db: Database, group: GroupView) -> None:
    kept = db.home / "backups" / "schema-0005-before-0006.db"
    kept.parent.mkdir()
    kept.write_bytes(b"")
    for number in range(6):
        vote(db, group, number)
        back_up(db, Retention(newest=2, hours=1, days=1), NOON + timedelta(minutes=number))
    stamps = [f"studio-20260501T12{minute:02}00000000Z.db" for minute in (4, 5)]
    assert names(db) == [kept.name, *stamps]


def test_a_full_disk_leaves_the_older_backups_and_nothing_half(db: Database, group: GroupView) -> None:
    back_up(db, now=NOON)
    vote(db, group, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(NotSavedError, match=r"No backup was made .*free some space"):
            back_up(db)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(db) == ["studio-20260501T120000000000Z.db"]


def test_a_damaged_database_is_said_and_the_older_backups_stay(
    home: Path, db: Database, group: GroupView
) -> None:
    back_up(db, now=NOON)
    db.close()
    zero_a_page(home / "app.db", "rating_event")
    with pytest.raises(DamagedError, match="No backup was made"):
        back_up(db)
    assert names(db) == ["studio-20260501T120000000000Z.db"]
    db.close()


def zero_a_page(path: Path, table: str) -> None:
    """Damages the root page of a table."""
    with sqlite3.connect(path) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(bytes(size))


def test_interval_and_retention_are_as_set_and_nonsense_is_as_usual(db: Database) -> None:
    assert plan_of(db) == Plan(5.0, Retention(12, 24, 14))
    put_setting(db, backup.SETTING, {"minutes": 1, "newest": 3, "hours": "many", "days": 10**9})
    assert plan_of(db) == Plan(1.0, Retention(3, 24, 1_000))
    put_setting(db, backup.SETTING, "often")
    assert plan_of(db) == Plan()


def test_the_thread_makes_them_while_something_changes_and_says_what_went_wrong(
    db: Database, group: GroupView
) -> None:
    put_setting(db, backup.SETTING, {"minutes": 0.01})
    keeper = Backups(db, first_seconds=0).start()
    try:
        wait_for(lambda: len(names(db)) == 1, what="the first backup")
        vote(db, group, 1)
        wait_for(lambda: len(names(db)) == 2, seconds=20.0, what="the second backup")
        assert keeper.trouble == ""
        assert trouble_of(db.home) is None
        os.rename(db.home / "backups", db.home / "away")
        (db.home / "backups").write_text("in the way")
        wait_for(lambda: keeper.trouble, seconds=20.0, what="a complaint")
        assert "No backup was made" in keeper.trouble
        wait_for(lambda: trouble_of(db.home), what="the note of it")
        (db.home / "backups").unlink()
        wait_for(lambda: keeper.trouble == "" and not trouble_of(db.home), seconds=20.0, what="its end")
    finally:
        keeper.stop()


def test_a_database_that_cannot_be_opened_is_said_and_the_thread_lives_on(
    db: Database, group: GroupView, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: object) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    with monkeypatch.context() as patched:
        patched.setattr(backup, "back_up", cannot)
        patched.setattr(backup, "MINUTES", 0.001)
        backups = Backups(db, first_seconds=0.0).start()
        wait_for(lambda: "unable to open" in backups.trouble)
    try:
        assert backups._thread.is_alive()
    finally:
        backups.stop()
    assert "unable to open" in getattr(trouble_of(db.home), "why", "")


def test_the_note_of_a_failure_takes_no_room_once_there_was_a_backup(db: Database) -> None:
    back_up(db)
    (path,) = (db.home / "locks").glob("backup.note")
    before = path.stat()
    backup_trouble.note(db.home, "猫" * 10_000)
    found = trouble_of(db.home)
    assert found is not None and found.why.startswith("猫") and utc_now() - found.at < timedelta(minutes=1)
    after = path.stat()
    assert (before.st_ino, before.st_size, before.st_blocks) == (after.st_ino, after.st_size, after.st_blocks)


def test_a_note_that_cannot_be_written_or_read_stops_nobody(db: Database, tmp_path: Path) -> None:
    backup_trouble.note(tmp_path / "nowhere", "why")
    assert trouble_of(tmp_path / "nowhere") is None
    back_up(db)
    (db.home / "locks" / "backup.note").write_bytes(b'{"at": "2026-')
    assert trouble_of(db.home) is None


@pytest.mark.parametrize("journal", ["WAL", "TRUNCATE"])
def test_backups_during_thirty_votes_a_second_are_intact_and_hold_what_was_acknowledged_before(
    home: Path, journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backups_during_votes(home, journal, monkeypatch, num_backups=5)


def backups_during_votes(
    home: Path, journal: str, monkeypatch: pytest.MonkeyPatch, num_backups: int
) -> tuple[int, float]:
    """Number of votes, and the seconds of the slowest backup; each has all votes of before its start."""
    if journal == "TRUNCATE":
        monkeypatch.setattr(engine, "has_wal_fix", lambda version: False)
    slowest = 0.0
    with voting(home) as (db, acknowledged):
        assert db.driver.journal_mode == journal
        for _ in range(num_backups):
            _wait_for_more(acknowledged)
            before, start = acknowledged[0], time.monotonic()
            made = back_up(db)
            slowest = max(slowest, time.monotonic() - start)
            assert made is not None
            assert copies.verified(made.path).ratings >= before
    return acknowledged[0], slowest


def _wait_for_more(acknowledged: list[int]) -> None:
    target = acknowledged[0] + 5
    wait_for(lambda: acknowledged[0] >= target, what="votes")


@contextmanager
def voting(home: Path) -> Iterator[tuple[Database, list[int]]]:
    """A data folder where somebody votes thirty times a second, and how many votes were acknowledged."""
    db = open_database(home)
    view = finished_group(db, checkpoints.register_base(db, name="starter", source="x", family="sdxl"))
    done, acknowledged = threading.Event(), [0]

    def votes() -> None:
        due = time.monotonic()
        while not done.wait(max(0.0, due - time.monotonic())):
            vote(db, view, acknowledged[0])
            acknowledged[0] += 1
            due += 1 / 30

    thread = threading.Thread(target=votes)
    thread.start()
    try:
        yield db, acknowledged
    finally:
        done.set()
        thread.join()
        db.close()

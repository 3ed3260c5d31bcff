"""The doctor of the data folder: each thing that is amiss has its line, with what to do."""

from __future__ import annotations

import os
import shutil
import socket
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from flowgrpo.runs import doctor_folder
from flowgrpo.runs.doctor_folder import examine_folder
from flowgrpo.runs.findings import Finding
from storage import backup_trouble, filesystems, users
from storage.backup import back_up
from storage.engine import Database
from storage.types import utc_now


def found(db: Database, words: str) -> Finding:
    lines = [one for one in examine_folder(db) if words in one.what]
    assert len(lines) == 1, [one.what for one in examine_folder(db)]
    return lines[0]


def test_every_line_of_a_sound_folder_is_ok_and_nothing_is_left_in_it(db: Database) -> None:
    db.home.chmod(0o700)
    (db.home / "app.db").chmod(0o600)
    users.add_user(db, "Ann", "artist")
    lines = [one for one in examine_folder(db) if not one.what.startswith("port")]
    assert {one.level for one in lines} == {"ok"}, [str(one) for one in lines]
    assert not list((db.home / "tmp").glob("doctor*"))


@pytest.mark.parametrize(
    ("free", "level", "words"), [(10**8, "problem", "less than the reserve"), (10**9, "note", "1.0 GB")]
)
def test_little_room_is_noted_and_less_than_the_reserve_is_a_problem(
    db: Database, monkeypatch: pytest.MonkeyPatch, free: int, level: str, words: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    line = found(db, "of disk free")
    assert (line.level, words in line.what, "free some" in line.advice) == (level, True, True)


def test_a_folder_that_cannot_be_saved_in_says_what_to_do(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    line = found(db, "cannot be saved")
    assert (line.level, "No space left" in line.what) == ("problem", True)
    assert not list((db.home / "tmp").glob("doctor*"))


def test_a_slow_disk_is_noted(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_folder, "SLOW_SECONDS", 0.0)
    assert found(db, "write, sync and rename").level == "note"


@pytest.mark.parametrize(("kind", "level"), [("nfs4", "problem"), ("9p", "note"), ("ext4", "ok")])
def test_the_file_system_is_named(
    db: Database, monkeypatch: pytest.MonkeyPatch, kind: str, level: str
) -> None:
    monkeypatch.setattr(filesystems, "kind_of", lambda folder, mounts=None: kind)
    assert found(db, f"lies on {kind}").level == level


@pytest.mark.parametrize(("holds", "level"), [(True, "ok"), (False, "problem")])
def test_a_network_file_system_beside_a_server_is_fine_where_locks_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holds: bool, level: str
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(filesystems, "kind_of", lambda folder, mounts=None: "nfs4")
    if not holds:
        monkeypatch.setattr(filesystems, "_keeps_promises", lambda path: False)
    line = doctor_folder._kind(tmp_path, is_server=True)
    assert (line.level, "nfs4" in line.what) == (level, True)


def test_data_that_others_can_change_are_noted(db: Database) -> None:
    db.home.chmod(0o777)
    line = found(db, "other users of this machine can change")
    assert (line.level, line.advice.startswith("chmod go-w")) == ("note", True)


@pytest.mark.parametrize(
    ("ahead", "level", "words"),
    [
        (timedelta(hours=2), "problem", "newest row is of"),
        (timedelta(0), "ok", "after the newest row"),
        (timedelta(days=-2), "note", "nothing has happened since"),
    ],
)
def test_a_clock_that_fell_behind_is_a_problem_and_an_idle_folder_is_noted(
    db: Database, monkeypatch: pytest.MonkeyPatch, ahead: timedelta, level: str, words: str
) -> None:
    users.add_user(db, "Ann", "artist")
    monkeypatch.setattr(doctor_folder, "utc_now", lambda: utc_now() - ahead)
    line = found(db, "clock:")
    assert (line.level, words in line.what) == (level, True), str(line)
    assert ("set the clock" in line.advice) == (level != "ok")


def test_a_taken_port_is_noted(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("GRADIO_SERVER_PORT", str(taken.getsockname()[1]))
        assert found(db, "is taken").level == "note"
    assert found(db, "is free").level == "ok"


@pytest.mark.sqlite_only("a server's backup is made with pg_dump")
def test_the_newest_backup_is_said_and_one_that_failed_is_noted_with_its_reason(db: Database) -> None:
    assert found(db, "no backup yet").level == "ok"
    assert back_up(db) is not None
    assert found(db, "newest backup: ").level == "ok"
    backup_trouble.note(db.home, "No backup was made (File exists): try again.")
    line = found(db, "the last backup failed")
    assert (line.level, "python app.py backup" in line.advice) == ("note", True)
    assert " seconds ago (No backup was made (File exists): try again), newest backup" in line.what


def test_a_journal_that_is_slower_than_it_could_be_is_noted(db: Database) -> None:
    assert found(db, "journal WAL").level == "ok"
    db.driver = SimpleNamespace(name="sqlite3", version="3.40", journal_mode="TRUNCATE")  # type: ignore[assignment]
    assert "pip install" in found(db, "journal TRUNCATE").advice

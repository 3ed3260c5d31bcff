"""A project goes out as one file and comes in elsewhere as it was, without what lets somebody in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from sqlalchemy import text

from storage import checkpoints, datasets, engine, groups, jobs, ratings, runs, snapshots
from storage.archive import archive
from storage.archive_rules import MANIFEST, ArchiveError
from storage.blobs import path_of, put_png
from storage.engine import Database, open_database
from storage.errors import NotSavedError
from storage.groups import GroupView
from storage.models import Checkpoint, Run
from storage.ratings import RatingInput
from storage.types import utc_now
from storage.unarchive import Unarchived, unarchive
from tests.storage.populated import columns_of, content_of
from tests.storage.records import CONFIG, noise_png
from tests.storage.test_commands import called
from tests.storage.test_migrations import upgrader

pytestmark = pytest.mark.sqlite_only("an archive holds the SQLite file")

HASH = "$argon2id$v=19$m=65536$a-password-hash-of-ann"
SECRET = "5ec7e7" * 10 + "abcd"
NOT_KEPT = {"session", "api_token", "login_link", "login_throttle", "worker_beat", "app_meta"}


@pytest.fixture
def project(db: Database, base: Checkpoint, run: Run) -> Database:
    """Images with files, ratings, a checkpoint, a dataset, a head, an evaluation, and secrets."""
    group = groups.request_group(
        db, prompt="=HYPERLINK(猫)", checkpoint_id=base.id, config=CONFIG, seeds=[1, 2], worker_id="h:cpu"
    )
    for index in range(2):
        sha256 = put_png(db.home, noise_png(24))
        groups.add_image(
            db, group_id=group.id, index=index, seed=index + 1, sha256=sha256, width=24, height=24
        )
    groups.finish_group(db, group.id)
    for view in groups.get_group(db, group.id).images:
        rating = RatingInput(f"key-{view.image.index}", "local", group.id, "stars", view.image.id, 4)
        ratings.rate(db, rating)
    write(db.home, f"runs/{run.id}/config.json", "{}")
    write(db.home, f"runs/{run.id}/log.txt", "what a log may hold is not for others")
    add_checkpoint(db, base, run)
    write(db.home, "datasets/one/red hair (2).png", "pixels")
    datasets.add_dataset(db, name="mine", path="datasets/one", num_images=1, detail={})
    datasets.add_dataset(db, name="theirs", path="/somewhere/else", num_images=1, detail={})
    write(db.home, "notices.json", "{}")
    frozen = snapshots.take_snapshot(db, snapshots.standing_votes(db))
    snapshots.record_fit(db, kind="head", snapshot_id=frozen.id, version="v1", detail={}, num_pairs=1)
    write(db.home, "heads/v1.safetensors", "weights")
    job = jobs.request_job(db, "evaluation", {}, "local")
    write(db.home, f"evaluations/{job.id}/table.csv", "1,2")
    add_secrets(db)
    return db


def write(home: Path, name: str, content: str) -> None:
    (home / name).parent.mkdir(parents=True, exist_ok=True)
    (home / name).write_text(content)


def add_checkpoint(db: Database, base: Checkpoint, run: Run) -> None:
    folder = f"runs/{run.id}/checkpoints/000002"
    for name in ("MANIFEST.json", "adapter/raw.safetensors"):
        write(db.home, f"{folder}/{name}", name * 100)
    claimed = runs.claim_run(db, host="h", boot_id="b")
    assert claimed is not None
    checkpoints.commit_checkpoint(
        db, run_id=run.id, attempt=claimed.attempt, update=2, name="tuned", path=folder, sha256="0" * 64
    )


def add_secrets(db: Database) -> None:
    now = utc_now().replace(tzinfo=None)
    with db.write() as session:
        session.execute(text("UPDATE user SET password_hash = :hash"), {"hash": HASH})
        for sql in (
            "INSERT INTO session VALUES (:s, 'local', :now, :now, :now, 'a browser')",
            "INSERT INTO api_token VALUES ('a', 'local', 'script', :s, :now, NULL, NULL)",
            "INSERT INTO login_link VALUES (:s, 'local', 'local', :now, :now, NULL)",
        ):
            session.execute(text(sql), {"s": SECRET, "now": now})


def rows_of(home: Path) -> dict[str, object]:
    """Every table's count and hash of each column, without what stays behind."""
    opened = upgrader(home)
    columns = columns_of(opened)
    kept = {name: listed for name, listed in columns.items() if name not in NOT_KEPT}
    kept["user"] = [name for name in kept["user"] if name != "password_hash"]
    kept["run"] = [name for name in kept["run"] if name not in ("state", "reason")]
    found = content_of(opened, kept)
    opened.dispose()
    return dict(found)


def files_of(home: Path) -> dict[str, bytes]:
    parts = ("blobs", "runs", "datasets", "heads", "evaluations", "notices.json")
    found = (path for part in parts for path in [home / part, *(home / part).rglob("*")] if path.is_file())
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in found}


def test_a_project_comes_out_of_its_archive_as_it_went_in(project: Database, tmp_path: Path) -> None:
    written = archive(project, tmp_path / "project.zip")
    done = unarchive(written.path, tmp_path / "new")
    assert (done.content.ratings, done.content.images) == (written.ratings, written.images) == (2, 2)
    assert written.missing == done.missing == []
    expected = {name: data for name, data in files_of(project.home).items() if not name.endswith("log.txt")}
    assert files_of(done.home) == expected
    assert len(expected) == 9
    assert rows_of(done.home) == rows_of(project.home)
    again = open_database(done.home)
    with again.read() as session:
        assert session.scalar(text("SELECT state FROM run")) == "stopped"
    again.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "new", "project.zip"]


def test_nothing_that_lets_somebody_in_is_in_the_archive(project: Database, tmp_path: Path) -> None:
    written = archive(project, tmp_path / "project.zip")
    with zipfile.ZipFile(written.path) as zipped:
        everything = b"".join(zipped.read(name) for name in zipped.namelist())
    assert b"red hair" in everything
    assert HASH.encode() not in everything and SECRET.encode() not in everything
    done = unarchive(written.path, tmp_path / "new")
    again = open_database(done.home)
    with again.read() as session:
        for table in NOT_KEPT - {"app_meta"}:
            assert session.scalar(text(f"SELECT count(*) FROM {table}")) == 0
        assert session.scalar(text("SELECT count(*) FROM user WHERE password_hash IS NOT NULL")) == 0
    again.close()
    with project.read() as session:
        assert session.scalar(text("SELECT count(*) FROM session")) == 1


def test_without_images_the_rows_come_alone_and_what_is_missing_is_said(
    project: Database, tmp_path: Path
) -> None:
    written = archive(project, tmp_path / "rows.zip", with_images=False)
    done = unarchive(written.path, tmp_path / "new")
    assert done.content.images == 2
    assert len(done.missing) == 2 and all(name.startswith("blobs/") for name in done.missing)
    assert not (done.home / "blobs").exists()


def test_a_file_that_is_gone_is_said_and_the_rest_is_written(project: Database, tmp_path: Path) -> None:
    with project.read() as session:
        sha256 = session.scalar(text("SELECT sha256 FROM image"))
    path_of(project.home, sha256).unlink()
    written = archive(project, tmp_path / "project.zip")
    assert written.missing == [f"blobs/{sha256[:2]}/{sha256}.png"]
    assert unarchive(written.path, tmp_path / "new").missing == written.missing


def test_nothing_is_written_over(project: Database, tmp_path: Path) -> None:
    written = archive(project, tmp_path / "project.zip")
    with pytest.raises(ValueError, match=r"there is a file .* already: choose another name"):
        archive(project, written.path)
    with pytest.raises(ValueError, match=r"there is something in .* already"):
        unarchive(written.path, project.home)
    (tmp_path / "empty").mkdir()
    assert isinstance(unarchive(written.path, tmp_path / "empty"), Unarchived)


def test_a_disk_without_room_is_said_and_nothing_is_left(
    project: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = archive(project, tmp_path / "project.zip")
    monkeypatch.setattr("storage.unarchive.RESERVE_BYTES", 10**18)
    with pytest.raises(ArchiveError, match=r"there is no room for that"):
        unarchive(written.path, tmp_path / "new")
    (tmp_path / "in the way").write_text("")
    with pytest.raises((NotSavedError, OSError)):
        archive(project, tmp_path / "in the way" / "x.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "in the way", "project.zip"]
    assert list((project.home / "tmp").iterdir()) == []


KILLED = """
import sys
from pathlib import Path
from storage.unarchive import unarchive
unarchive(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_killed_before_the_end_there_is_no_folder_and_the_same_command_makes_it(
    project: Database, tmp_path: Path
) -> None:
    written = archive(project, tmp_path / "project.zip")
    command = [sys.executable, "-c", KILLED, str(written.path), str(tmp_path / "new")]
    root = Path(engine.__file__).parents[1]
    environment = os.environ | {"FAILPOINT": "unarchive.unpacked:kill"}
    assert subprocess.run(command, cwd=root, env=environment, check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "new").exists()
    assert len(list(tmp_path.glob(".new.*.partial"))) == 1
    assert unarchive(written.path, tmp_path / "new").content.ratings == 2
    assert list(tmp_path.glob(".new.*.partial")) == []


def test_the_commands_say_what_they_did(project: Database, tmp_path: Path) -> None:
    file, new = str(tmp_path / "p.zip"), str(tmp_path / "new")
    code, said = called("archive", file, "--home", str(project.home))
    assert (code, "2 ratings, 2 images." in said) == (0, True)
    code, said = called("archive", file, "--home", str(project.home))
    assert (code, "choose another name" in said) == (2, True)
    code, said = called("unarchive", file, "--home", new)
    assert (code, "Nobody has a password in it" in said) == (0, True)
    code, said = called("backup", "--home", new)
    assert code == 0


def test_equal_projects_make_equal_entries(project: Database, tmp_path: Path) -> None:
    entries = []
    for name in ("a.zip", "b.zip"):
        with zipfile.ZipFile(archive(project, tmp_path / name).path) as zipped:
            entries.append([(one.filename, one.CRC) for one in zipped.infolist() if one.filename != MANIFEST])
    assert entries[0] == entries[1]


def test_an_image_is_in_it_once_however_many_rows_name_it(
    db: Database, group: GroupView, base: Checkpoint, tmp_path: Path
) -> None:
    sha256 = put_png(db.home, noise_png(8))
    with db.write() as session:
        session.execute(text("UPDATE image SET sha256 = :a"), {"a": sha256})
    with zipfile.ZipFile(archive(db, tmp_path / "a.zip").path) as zipped:
        assert sorted(zipped.namelist()) == [MANIFEST, "app.db", f"blobs/{sha256[:2]}/{sha256}.png"]

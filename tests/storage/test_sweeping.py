"""What nothing points to goes after a day; what a row or a kept backup points to never does."""

from __future__ import annotations

import io
import os
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture
from sqlalchemy import select

from storage import blobs, groups, imports, runs
from storage.backup import back_up
from storage.blobs import path_of, put_png
from storage.checkpoints import register_base
from storage.engine import Database, open_database
from storage.groups import GroupView
from storage.imports import new_upload, request_import
from storage.models import Checkpoint, Image, Run
from storage.sweeping import GRACE_SECONDS, orphans, sweep
from tests.storage.ready import ready
from tests.storage.records import CONFIG
from tests.storage.test_commands import called

OLD = GRACE_SECONDS + 600


def age(path: Path, seconds: float) -> Path:
    """The file, last written that long ago; made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def add_row(db: Database, base: Checkpoint, sha256: str) -> None:
    group = groups.request_group(
        db, prompt="red hair", checkpoint_id=base.id, config=CONFIG, seeds=[1], worker_id="host:cpu"
    )
    groups.add_image(db, group_id=group.id, index=0, seed=1, sha256=sha256, width=8, height=8)


FILES = st.lists(
    st.tuples(
        st.sampled_from(["row", "backup", "row and backup", "none"]),
        st.sampled_from([0, GRACE_SECONDS // 2, GRACE_SECONDS - 60, OLD, 100 * OLD]),
        st.booleans(),
    ),
    max_size=12,
)


@pytest.mark.sqlite_only("a server has no backups among its files")
@settings(max_examples=12)
@given(FILES)
def test_exactly_the_old_files_go_that_no_row_and_no_backup_points_to(
    files: list[tuple[str, float, bool]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        db = open_database(ready(Path(folder) / "home"))
        base = register_base(db, name="starter", source="x", family="sdxl")
        expected = set()
        for number, (where, seconds, has_thumb) in enumerate(files):
            sha256 = f"{number:064x}"
            paths = [age(path_of(db.home, sha256), seconds)]
            if has_thumb:
                paths.append(age(db.home / "thumbs" / sha256[:2] / f"{sha256}.webp", seconds))
            if "backup" in where:
                add_row(db, base, sha256)
            if where != "none" or seconds < GRACE_SECONDS:
                expected.update(paths)
        back_up(db)
        with db.write() as session:
            for number, (where, _, _) in enumerate(files):
                if where == "backup":
                    session.delete(
                        session.scalars(select(Image).where(Image.sha256 == f"{number:064x}")).one()
                    )
        for number, (where, _, _) in enumerate(files):
            if where == "row":
                add_row(db, base, f"{number:064x}")
        sweep(db, orphans(db))
        left = {
            path for part in ("blobs", "thumbs") for path in (db.home / part).rglob("*") if path.is_file()
        }
        assert left == expected
        db.close()


def small_png(number: int) -> bytes:
    buffer = io.BytesIO()
    Picture.new("RGB", (8, 8), (number % 256, number // 256, 7)).save(buffer, "PNG")
    return buffer.getvalue()


def test_an_image_that_a_writer_is_about_to_name_is_never_taken_from_it(
    db: Database, base: Checkpoint
) -> None:
    pngs = [small_png(number) for number in range(60)]
    ended = threading.Event()

    def writes() -> None:
        try:
            for png in pngs:
                sha256 = put_png(db.home, png)
                time.sleep(0.002)  # between file and row, where the sweeper must not come
                add_row(db, base, sha256)
        finally:
            ended.set()

    for png in pngs:
        age(path_of(db.home, put_png(db.home, png)), OLD)
    found = orphans(db)
    assert len(found) == len(pngs)
    writer = threading.Thread(target=writes)
    writer.start()
    removed = 0
    while not ended.is_set() or found:
        removed += sweep(db, found[-1:])[0]  # the writer comes from the other end
        found = found[:-1] if not ended.is_set() else []
        time.sleep(0.004)
    writer.join()
    with db.read() as session:
        named = list(session.scalars(select(Image.sha256)))
    assert len(named) == len(pngs)
    assert [one for one in named if not path_of(db.home, one).exists()] == []
    assert removed > 0


def test_who_stores_an_old_image_again_makes_it_young_before_the_sweeper_looks_again(db: Database) -> None:
    png = small_png(1)
    path = age(path_of(db.home, put_png(db.home, png)), OLD)
    found = orphans(db)
    assert [one.path for one in found] == [path]
    put_png(db.home, png)
    assert sweep(db, found) == (0, 0)
    assert path.read_bytes() == png


def test_nobody_finds_an_image_there_while_the_sweeper_takes_it_away(db: Database) -> None:
    png = small_png(1)
    put_png(db.home, png)
    stored: list[str] = []
    thread = threading.Thread(target=lambda: stored.append(put_png(db.home, png)))
    with blobs.nobody_stores(db.home):
        thread.start()
        time.sleep(0.05)
        assert stored == []
    thread.join()
    assert len(stored) == 1


def test_leftovers_go_and_what_is_waited_for_stays(db: Database, base: Checkpoint) -> None:
    upload, path = new_upload(db)
    age(path, OLD)
    request_import(db, upload=upload, base_checkpoint_id=base.id, name="a", origin="a.safetensors")
    gone = [
        age(db.home / "tmp" / "gradio" / "a" / "b.png", OLD),
        age(db.home / "tmp" / "uploads" / "another" / imports._NAME, OLD),
        age(db.home / "thumbs" / "ab" / "x.tmp", OLD),
        age(db.home / "rollouts" / "x.safetensors", OLD),
        age(db.home / "backups" / "studio-1.partial", OLD),
    ]
    stays = [
        path,
        age(db.home / "tmp" / "young.png", 60),
        age(db.home / "backups" / "by-hand.db", OLD),
        age(db.home / "blobs" / "ab" / "notes.txt", OLD),
        age(db.home / "runs" / "1" / "log.txt", OLD),
    ]
    assert {one.path for one in orphans(db)} == set(gone)
    assert sweep(db, orphans(db))[0] == len(gone)
    assert [one.exists() for one in stays] == [True] * len(stays)


def test_rollouts_stay_while_a_run_has_not_ended(db: Database, run: Run) -> None:
    path = age(db.home / "rollouts" / "x.safetensors", OLD)
    assert orphans(db) == []
    runs.move(db, run.id, to="canceled", from_states=("queued",))
    assert [one.path for one in orphans(db)] == [path]


@pytest.mark.sqlite_only("a server has no backups among its files")
@pytest.mark.parametrize("yes", [False, True])
def test_the_command_counts_and_removes_only_when_it_is_told_to(
    home: Path, db: Database, group: GroupView, yes: bool
) -> None:
    del group
    path = age(path_of(home, "a" * 64), OLD)
    code, said = called("clean", "--home", str(home), *(["--yes"] if yes else []))
    assert code == 0
    assert ("Removed 1 files" if yes else "1 files, older than 24 h, have no row") in said
    assert path.exists() is not yes

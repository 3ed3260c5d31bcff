"""Every connection has the settings on which the promises rest, and trouble comes out as a sentence."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from storage import engine, filesystems, groups
from storage.engine import READ_CONNECTIONS, Database, has_wal_fix, open_database
from storage.errors import NotSavedError, SchemaError
from storage.models import AppMeta, Checkpoint, User
from tests.storage.records import CONFIG

PRAGMAS = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "query_only", "mmap_size")


@pytest.mark.sqlite_only("reads pragmas")
def test_every_connection_has_the_settings(db: Database) -> None:
    with ExitStack() as stack:
        sessions = [stack.enter_context(db.read()) for _ in range(READ_CONNECTIONS)]
        found = [[session.scalar(text(f"PRAGMA {name}")) for name in PRAGMAS] for session in sessions]
    assert found == [["wal", 2, 1, 10_000, 1, 0]] * READ_CONNECTIONS
    with db.write() as session:
        assert [session.scalar(text(f"PRAGMA {name}")) for name in PRAGMAS] == ["wal", 2, 1, 10_000, 0, 0]


@pytest.mark.sqlite_only("looks at its library")
def test_the_sqlite_in_use_has_no_wal_reset_bug(db: Database) -> None:
    assert db.driver.name == "pysqlite3"
    assert db.driver.journal_mode == "WAL"
    assert has_wal_fix(tuple(map(int, db.driver.version.split("."))))


@pytest.mark.parametrize(
    ("version", "is_fixed"),
    [((3, 40, 1), False), ((3, 50, 6), False), ((3, 50, 7), True), ((3, 51, 2), False), ((3, 51, 3), True)],
)
def test_wal_is_for_fixed_versions_only(version: tuple[int, ...], is_fixed: bool) -> None:
    assert has_wal_fix(version) is is_fixed


@pytest.mark.sqlite_only("looks at its journal")
def test_an_old_sqlite_gets_a_rollback_journal_and_keeps_ratings_safe(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "available_modules", lambda: [sqlite3])
    monkeypatch.setattr(engine, "has_wal_fix", lambda version: False)
    database = open_database(home)
    assert (database.driver.name, database.driver.journal_mode) == ("sqlite3", "TRUNCATE")
    with database.write() as session:
        assert session.scalar(text("PRAGMA journal_mode")) == "truncate"
        assert session.scalar(text("PRAGMA synchronous")) == 3
        session.add(AppMeta(key="a", value="b"))
    with database.read() as session:
        assert session.scalars(select(AppMeta.value)).all() == ["b"]
    database.close()


def test_a_disk_without_shared_memory_gets_no_wal_and_a_network_disk_is_refused(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        f"/dev/sda / ext4 rw 0 0\nhost:/x {tmp_path} nfs4 rw 0 0\n9 {tmp_path}/in\\040vm 9p rw 0 0\n"
    )
    assert filesystems.kind_of(Path("/"), mounts) == "ext4"
    assert not filesystems.has_shared_memory(tmp_path / "in vm" / "home", mounts)
    with pytest.raises(OSError, match=r"network file system \(nfs4\)"):
        filesystems.refuse_network(tmp_path / "home", mounts)
    assert filesystems.kind_of(tmp_path, tmp_path / "no such file") == ""


def _note(session: Session, key: str, value: str = "") -> None:
    session.add(AppMeta(key=key, value=value))
    session.flush()


def _save(db: Database, key: str, value: str = "") -> None:
    with db.write() as session:
        _note(session, key, value)


def _keys(db: Database) -> set[str]:
    with db.read() as session:
        return set(session.scalars(select(AppMeta.key)))


def test_a_read_refuses_to_write(db: Database) -> None:
    with db.read() as session, pytest.raises(DatabaseError, match=r"read-?only"):
        _note(session, "a")


def _note_and_fail(db: Database) -> None:
    with db.write() as session:
        _note(session, "a")
        raise ZeroDivisionError


def test_a_write_that_raises_leaves_nothing(db: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        _note_and_fail(db)
    assert _keys(db) == set()


def test_a_write_inside_a_write_is_refused_instead_of_waiting_for_itself(db: Database) -> None:
    with pytest.raises(RuntimeError, match="write inside a write"), db.write(), db.write():
        pass


def test_records_can_be_used_after_their_session(db: Database) -> None:
    with db.read() as session:
        user = session.scalars(select(User)).one()
    assert (user.id, user.name, user.role) == ("local", "local", "admin")
    assert user.created_at.tzinfo is not None


def test_importing_storage_brings_no_tensors_and_no_widgets() -> None:
    names = "checkpoints groups ratings runs prompts evaluations workers blobs locks engine"
    code = "import sys\n" + "\n".join(f"import storage.{name}" for name in names.split())
    code += "\nprint({'torch', 'gradio', 'alembic', 'numpy', 'PIL'} & set(sys.modules))"
    root = Path(engine.__file__).parents[1]
    said = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"


def test_text_that_a_database_cannot_hold_is_refused_in_words(db: Database, base: Checkpoint) -> None:
    for bad in ("nul \x00 inside", "half \ud800 character"):
        with pytest.raises(ValueError, match="the text holds"):
            groups.request_group(db, prompt=bad, checkpoint_id=base.id, config=CONFIG, seeds=[1])
        with pytest.raises(ValueError, match="the text holds"):
            groups.request_group(db, prompt="a", checkpoint_id=base.id, config={"negative": bad}, seeds=[1])
        with pytest.raises(ValueError, match="the text holds"):
            groups.claim_group(db, bad) or groups.request_group(
                db, prompt="a", checkpoint_id=base.id, config=CONFIG, seeds=[1], worker_id=bad
            )
    with pytest.raises(ValueError, match="finite"):
        groups.request_group(db, prompt="a", checkpoint_id=base.id, config={"x": float("nan")}, seeds=[1])


@pytest.mark.parametrize("address", ["mysql://me:secret@somewhere/else", "me:secret@somewhere", "oracle://"])
def test_another_database_than_these_two_is_refused_and_its_password_not_told(
    home: Path, address: str
) -> None:
    with pytest.raises(ValueError, match="postgresql://user@host:port/database or sqlite") as refused:
        open_database(home, address)
    assert "secret" not in str(refused.value)
    assert not home.exists()


@pytest.mark.sqlite_only("a server looks after its own files")
def test_a_damaged_file_is_refused_in_words(home: Path) -> None:
    open_database(home).close()
    for path in home.glob("app.db-*"):
        path.unlink()
    (home / "app.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(OSError, match="damaged"):
        open_database(home)


def test_a_data_folder_that_cannot_be_made_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="choose another FLOWGRPO_HOME"):
        open_database(tmp_path / "file" / "home")


def test_data_of_a_newer_version_is_refused(db: Database, home: Path) -> None:
    with db.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaError, match="install the newer version"):
        open_database(home)


@pytest.mark.sqlite_only("a server has its own disk")
def test_a_full_disk_refuses_the_write_in_words_and_loses_nothing(db: Database) -> None:
    _save(db, "kept")
    size = (db.home / "app.db-wal").stat().st_size
    with _files_limited_to(size + 20_000):
        with pytest.raises(NotSavedError, match="Not saved: the disk is full"):
            _save(db, "lost", "x" * 1_000_000)
        assert _keys(db) == {"kept"}
    _save(db, "again", "x" * 1_000_000)
    assert _keys(db) == {"kept", "again"}
    with db.read() as session:
        assert session.scalar(text("PRAGMA integrity_check")) == "ok"


@contextmanager
def _files_limited_to(size: int) -> Iterator[None]:
    """To write past the limit fails as on a full disk; Python ignores the signal that comes with it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


HOLDER = """
import sys
from pathlib import Path
from sqlalchemy import text
from storage.engine import open_database
db = open_database(Path(sys.argv[1]))
with db.write() as session:
    session.execute(text("INSERT INTO app_meta VALUES ('holder', 'was here')"))
    print("holding", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def _another_process_that_writes(home: Path) -> Iterator[subprocess.Popen[str]]:
    root = Path(engine.__file__).parents[1]
    command = [sys.executable, "-c", HOLDER, str(home)]
    with subprocess.Popen(
        command,
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": "."},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        yield process


def test_a_second_process_that_writes_is_waited_for(db: Database, home: Path) -> None:
    with _another_process_that_writes(home) as other, ThreadPoolExecutor() as pool:
        waiting = pool.submit(_save, db, "mine")
        assert _keys(db) == set()
        assert not waiting.done()
        other.communicate("done\n")
        waiting.result()
    assert _keys(db) == {"holder", "mine"}


def test_a_second_process_that_never_ends_its_write_is_reported_and_reads_go_on(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 300)
    db = open_database(home)
    with _another_process_that_writes(home) as other:
        with pytest.raises(NotSavedError, match="another process kept the database busy"):
            _save(db, "mine")
        assert _keys(db) == set()
        other.communicate("done\n")
    _save(db, "mine")
    assert _keys(db) == {"holder", "mine"}
    db.close()


def test_of_many_writers_that_are_held_up_none_waits_for_the_others_to_give_up(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 1_000)
    db, waited = open_database(home), list[float]()

    def write(number: int) -> None:
        began = time.monotonic()
        with pytest.raises(NotSavedError):
            _save(db, f"writer {number}")
        waited.append(time.monotonic() - began)

    with _another_process_that_writes(home) as other, ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
        other.communicate("done\n")
    assert len(waited) == 4 and max(waited) < 3.5  # in turn, the last would wait for four seconds
    db.close()

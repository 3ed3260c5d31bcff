"""The drill: a database is damaged, a backup takes its place, and nothing that there was is deleted."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from storage import api_tokens, engine, restore
from storage.backup import back_up
from storage.blobs import put_png
from storage.copies import Content
from storage.engine import Database, open_database
from storage.errors import DamagedError
from storage.groups import GroupView
from storage.migrate import head_of, run_migrations
from storage.types import utc_now
from tests.storage.records import noise_png
from tests.storage.test_backup import vote
from tests.storage.test_migrations import upgrader
from tests.storage.test_shutdown import DAMAGES, cut, overwrite, start

pytestmark = pytest.mark.sqlite_only("a server's backup is put back with pg_restore")

ROOT = Path(engine.__file__).parents[1]
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def num_ratings(home: Path) -> int:
    db = open_database(home)
    with db.read() as session:
        found = session.scalar(text("SELECT count(*) FROM rating_event")) or 0
    db.close()
    return int(found)


@pytest.fixture
def backed_up(db: Database, group: GroupView) -> Path:
    """A folder with two ratings in its backup, and a third one since."""
    vote(db, group, 1)
    vote(db, group, 2)
    made = back_up(db, now=NOON)
    assert made is not None
    vote(db, group, 3)
    db.close()
    return made.path


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_drill_brings_back_what_the_backup_held_and_keeps_what_was_damaged(
    home: Path, backed_up: Path, damage: str
) -> None:
    DAMAGES[damage](home / "app.db")
    damaged = (home / "app.db").read_bytes() if (home / "app.db").exists() else None
    done = restore.restore(home)
    assert (done.path, done.at, done.content) == (backed_up, NOON, Content(head_of(), 2, 2))
    assert num_ratings(home) == 2
    start(home)
    if damaged is not None:
        assert done.aside is not None
        assert (done.aside / "app.db").read_bytes() == damaged
    else:
        assert done.aside is None
    assert backed_up.exists()


def test_a_write_ahead_log_of_the_old_database_is_never_played_into_the_new_one(
    home: Path, backed_up: Path, group: GroupView
) -> None:
    code = f"""
import os
from pathlib import Path
from storage.engine import open_database
from storage.models import AppMeta
db = open_database(Path({str(home)!r}))
for number in range(50):
    with db.write() as session:
        session.add(AppMeta(key=str(number), value="x" * 5000))
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert (home / "app.db-wal").stat().st_size > 100_000
    done = restore.restore(home)
    assert done.aside is not None
    assert {path.name for path in done.aside.iterdir()} >= {"app.db", "app.db-wal"}
    assert num_ratings(home) == 2
    with sqlite3.connect(home / "app.db") as connection:
        assert connection.execute("SELECT count(*) FROM app_meta").fetchone() == (0,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    restore.restore(home, done.aside / "app.db")  # and back, with its log
    assert num_ratings(home) == 3
    with sqlite3.connect(home / "app.db") as connection:
        assert connection.execute("SELECT count(*) FROM app_meta").fetchone() == (50,)
    connection.close()


def test_it_is_refused_while_somebody_has_the_folder_open(home: Path, backed_up: Path) -> None:
    other = open_database(home)
    with pytest.raises(OSError, match="open in another process"):
        restore.restore(home)
    other.close()
    assert num_ratings(home) == 3


def test_a_damaged_backup_is_passed_over_and_refused_when_it_is_named(home: Path, backed_up: Path) -> None:
    newer = home / "backups" / "studio-20260601T000000000000Z.db"
    newer.write_bytes(backed_up.read_bytes())
    cut(newer, 40_000)
    with pytest.raises(DamagedError, match="no intact database"):
        restore.restore(home, newer)
    assert num_ratings(home) == 3
    assert restore.restore(home).path == backed_up


@pytest.mark.parametrize("what", ["newer", "another program's", "the database itself", "gone"])
def test_what_does_not_fit_is_refused_in_words_and_nothing_changes(
    home: Path, backed_up: Path, tmp_path: Path, what: str
) -> None:
    source = tmp_path / "given.db"
    if what == "newer":
        source.write_bytes(backed_up.read_bytes())
        with sqlite3.connect(source) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.close()
    if what == "another program's":
        with sqlite3.connect(source) as connection:
            connection.execute("CREATE TABLE a (b)")
        connection.close()
    if what == "the database itself":
        source = home / "app.db"
    with pytest.raises(
        DamagedError, match=r"install the newer|no database of this|is the database itself|no file"
    ):
        restore.restore(home, source)
    assert num_ratings(home) == 3
    assert not (home / "damaged").exists()


def test_without_a_good_backup_nothing_changes(home: Path, backed_up: Path) -> None:
    overwrite(backed_up, bytes(4096))
    with pytest.raises(DamagedError, match="no good backup"):
        restore.restore(home)
    assert num_ratings(home) == 3


def test_files_that_rows_point_to_and_that_are_gone_are_named(
    home: Path, db: Database, group: GroupView
) -> None:
    sha256 = put_png(home, noise_png(8))
    with db.write() as session:
        first = group.images[0].image.id
        session.execute(text("UPDATE image SET sha256 = :a WHERE id = :b"), {"a": sha256, "b": first})
    back_up(db)
    db.close()
    gone = group.images[1].image.sha256
    assert restore.restore(home).missing == [f"blobs/{gone[:2]}/{gone}.png"]


def test_who_was_logged_in_when_the_backup_was_made_logs_in_again(home: Path, db: Database) -> None:
    values = {"hash": "0" * 64, "now": utc_now().replace(tzinfo=None), "then": datetime(2099, 1, 1)}
    with db.write() as session:
        session.execute(
            text("INSERT INTO session VALUES (:hash, 'local', :now, :now, :then, 'a browser')"), values
        )
    back_up(db)
    db.close()
    restore.restore(home)
    again = open_database(home)
    with again.read() as session:
        assert session.scalar(text("SELECT count(*) FROM session")) == 0
        assert session.scalar(text("SELECT count(*) FROM user")) == 1
    again.close()


def test_a_token_that_was_revoked_after_the_backup_stays_so(home: Path, db: Database) -> None:
    made, secret = api_tokens.make_token(db, "local", "a script")
    back_up(db)
    api_tokens.revoke_token(db, made.id, "local")
    db.close()
    restore.restore(home)
    again = open_database(home)
    assert api_tokens.who(again, secret) is None
    again.close()


KILLED = """
import sys
from pathlib import Path
from storage.restore import restore
restore(Path(sys.argv[1]))
"""
POINTS = ("restore.copied", "restore.aside_app.db", "restore.aside_app.db-wal", "restore.aside")


@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_nothing_starts_half_and_the_same_command_finishes_it(
    home: Path, backed_up: Path, point: str
) -> None:
    (home / "app.db-wal").write_bytes(b"")  # there is one while others have it open, or after a crash
    command = [sys.executable, "-c", KILLED, str(home)]
    killed = subprocess.run(command, cwd=ROOT, env=os.environ | {"FAILPOINT": f"{point}:kill"}, check=False)
    assert killed.returncode == -signal.SIGKILL
    if point == "restore.copied":
        assert num_ratings(home) == 3
    else:
        with pytest.raises(DamagedError, match=r"is missing.*python app.py restore"):
            open_database(home)
    restore.restore(home)
    assert num_ratings(home) == 2
    asides = sorted((home / "damaged").iterdir())
    assert (asides[0] / "app.db").exists()


def test_a_backup_of_an_older_schema_is_restored_and_migrated_at_the_next_start(
    home: Path, backed_up: Path
) -> None:
    run_migrations(upgrader(home), "downgrade", "0005")
    with sqlite3.connect(home / "app.db") as connection:
        connection.execute("VACUUM INTO ?", (str(home / "backups" / "schema-0005-before-0006.db"),))
    connection.close()
    done = restore.restore(home, home / "backups" / "schema-0005-before-0006.db")
    assert done.content == Content("0005", 3, 2)
    assert num_ratings(home) == 3

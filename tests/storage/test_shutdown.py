"""An end that was not orderly is seen at the next start; a damaged database is refused, with what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from storage import shutdown
from storage.backup import back_up
from storage.engine import Database, open_database
from storage.errors import DamagedError
from storage.groups import GroupView
from storage.models import AppMeta
from storage.shutdown import KEY, check_after_crash, served
from tests.storage.test_backup import vote, zero_a_page

pytestmark = pytest.mark.sqlite_only("a server looks after its own files")


def marker(db: Database) -> str | None:
    with db.read() as session:
        found = session.get(AppMeta, KEY)
        return found.value if found else None


def test_the_mark_says_whether_the_last_end_was_orderly(db: Database) -> None:
    assert marker(db) is None
    with served(db):
        assert marker(db) == "false"
    assert marker(db) == "true"
    with pytest.raises(KeyboardInterrupt), served(db):
        raise KeyboardInterrupt
    assert marker(db) == "true"


def test_of_two_studios_on_one_folder_the_last_one_sets_the_mark(db: Database) -> None:
    with served(db):
        with served(db):
            pass
        assert marker(db) == "false"
    assert marker(db) == "true"


def checks_of(db: Database, monkeypatch: pytest.MonkeyPatch, *, small: int) -> bool:
    """Whether a start looks at a database that was damaged in the middle."""
    monkeypatch.setattr(shutdown, "SMALL_BYTES", small)
    try:
        check_after_crash(db)
    except DamagedError:
        return True
    return False


def test_a_large_database_is_looked_at_after_a_crash_only_and_a_small_one_at_every_start(
    db: Database, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(db):
        pass
    db.close()
    zero_a_page(home / "app.db", "rating_event")
    again = open_database(home)
    assert not checks_of(again, monkeypatch, small=0)
    assert checks_of(again, monkeypatch, small=10**9)
    with again.write() as session:
        session.execute(text("UPDATE app_meta SET value = 'false'"))
    assert checks_of(again, monkeypatch, small=0)
    again.close()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a zeroed page": lambda path: zero_a_page(path, "image"),
    "a zeroed first page": lambda path: overwrite(path, bytes(4096)),
    "no database at all": lambda path: path.write_bytes(b"not a database" * 1000),
    "cut in the middle": lambda path: cut(path, path.stat().st_size // 2),
    "cut to nothing": lambda path: cut(path, 0),
    "gone": Path.unlink,
}


def overwrite(path: Path, data: bytes) -> None:
    with path.open("r+b") as file:
        file.write(data)


def cut(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_database_is_refused_with_the_newest_good_backup_and_the_command(
    db: Database, home: Path, group: GroupView, damage: str
) -> None:
    vote(db, group, 1)
    good = back_up(db)
    assert good is not None
    shutil.copy(good.path, home / "backups" / "studio-29990101T000000000000Z.db")
    overwrite(home / "backups" / "studio-29990101T000000000000Z.db", bytes(4096))
    with db.write() as session:
        session.merge(AppMeta(key=KEY, value="false"))
    db.close()
    DAMAGES[damage](home / "app.db")
    before = {path: path.read_bytes() for path in home.glob("app.db*")}
    with pytest.raises(DamagedError) as refused:
        start(home)
    said = str(refused.value)
    assert good.path.name in said
    assert "seconds old, with 1 ratings and 2 images" in said
    assert "python app.py restore" in said
    assert {path: path.read_bytes() for path in before} == before


def start(home: Path) -> None:
    database = open_database(home)
    try:
        check_after_crash(database)
    finally:
        database.close()


def test_without_any_backup_the_sentence_says_so(db: Database, home: Path) -> None:
    db.close()
    overwrite(home / "app.db", bytes(4096))
    with pytest.raises(DamagedError, match=r"no good backup .*restore --from FILE"):
        open_database(home)

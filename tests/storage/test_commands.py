"""The commands that keep a data folder, as a person calls them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import app
from storage.engine import Database
from storage.groups import GroupView
from storage.migrate import head_of
from tests.storage.test_backup import vote
from tests.storage.test_shutdown import overwrite

pytestmark = pytest.mark.sqlite_only("a server's backup is made with pg_dump")


def called(*words: str) -> tuple[int, str]:
    """Exit code and all that was said."""
    done = CliRunner().invoke(app.cli, words)
    return done.exit_code, done.output


def test_the_modules_of_commands_that_stand_elsewhere_are_imported_when_they_are_called() -> None:
    early = {"storage.commands", "storage.engine", "sqlalchemy"}
    code = f"import sys, app; sys.exit(len({early} & set(sys.modules)))"
    root = Path(app.__file__).parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_a_backup_is_made_listed_and_restored(home: Path, db: Database, group: GroupView) -> None:
    vote(db, group, 1)
    code, said = called("backup", "--home", str(home))
    (made,) = (home / "backups").iterdir()
    assert (code, made.name in said) == (0, True)
    assert called("backup", "--home", str(home)) == (0, "Nothing changed since the newest backup.\n")
    code, said = called("restore", "--list", "--home", str(home))
    assert (code, f"1 ratings  2 images  schema {head_of()}" in said) == (0, True)
    code, said = called("restore", "--home", str(home))
    assert (code, "open in another process" in said) == (2, True)
    db.close()
    overwrite(home / "app.db", bytes(4096))
    code, said = called("export", "nothing", "x.safetensors", "--home", str(home))
    assert (code, "`python app.py restore` puts it in place" in said) == (2, True)
    code, said = called("restore", "--home", str(home), "--from", str(made))
    assert code == 0
    assert f"Restored {made.name}" in said
    assert "1 ratings, 2 images" in said
    assert "2 files that it points to are missing: blobs/" in said


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path, command: str) -> None:
    code, said = called(command, "--home", str(tmp_path / "no"))
    assert (code, "there is no data folder" in said) == (2, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["restore"])
def test_a_database_on_a_server_is_refused_with_what_to_use_there(
    home: Path, db: Database, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://somewhere/else")
    code, said = called(command, "--home", str(home))
    assert (code, "use pg_dump and pg_restore" in said) == (2, True)

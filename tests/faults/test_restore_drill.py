"""The drill on the whole program: served, backed up, killed, damaged, refused, restored, served again."""

from __future__ import annotations

import signal
import sqlite3
from pathlib import Path

import pytest

from tests.runs.helpers import wait_for
from tests.served import served
from tests.storage.test_commands import called
from tests.storage.test_shutdown import cut


def mark(home: Path) -> str:
    """What the folder says of the last end of the studio."""
    connection = sqlite3.connect(home / "app.db")
    (value,) = connection.execute("SELECT value FROM app_meta WHERE key = 'clean_shutdown'").fetchone()
    connection.close()
    return str(value)


@pytest.mark.slow
def test_a_killed_studio_with_a_damaged_database_is_refused_restored_and_served_again(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with served(home, tmp_path / "first.log") as first:
        assert called("backup", "--home", str(home))[0] == 0
        code, said = called("restore", "--home", str(home))
        assert (code, "open in another process" in said) == (2, True)
        first.process.kill()
        first.process.wait()
    assert mark(home) == "false"
    cut(home / "app.db", 100_000)
    code, said = called("serve", "--home", str(home))
    assert code == 2
    assert "seconds old, with 0 ratings" in said and "`python app.py restore`" in said
    wait_for(lambda: called("restore", "--home", str(home))[0] == 0, what="the end of the engine")
    with served(home, tmp_path / "second.log") as second:
        assert mark(home) == "false"
        second.process.send_signal(signal.SIGTERM)
        assert second.process.wait(60) == 0
    assert mark(home) == "true"

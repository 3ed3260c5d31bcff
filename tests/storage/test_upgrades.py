"""Databases of every released schema become the newest with every row and value; killed anywhere, too."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from storage import migrate
from storage.engine import open_database
from storage.migrate import SCRIPTS, head_of
from tests.storage.attention import counted
from tests.storage.populated import RELEASED, columns_of, content_of, populate, schema_of
from tests.storage.test_migrations import upgrader

pytestmark = pytest.mark.sqlite_only("the populated databases are SQLite files")

ROOT = SCRIPTS.parents[1]


@pytest.mark.parametrize("revision", RELEASED)
def test_every_row_and_value_of_a_released_schema_is_there_after_the_upgrade(
    home: Path, revision: str
) -> None:
    assert upgraded(home, revision, rows=24, ratings=300) == 300


def upgraded(home: Path, revision: str, rows: int, ratings: int) -> int:
    """Number of ratings that came through; everything else is compared here."""
    populate(home, revision, rows, ratings)
    engine = upgrader(home)
    columns = columns_of(engine)
    before = content_of(engine, columns)
    assert min(count for count, _ in before.values()) >= rows
    db = open_database(home)
    assert all(kept == rows_say for kept, rows_say in counted(db).values())
    db.close()
    assert schema_of(home) == head_of()
    assert content_of(engine, columns) == before
    engine.dispose()
    return before["rating_event"][0]


POINTS = (
    "migrate.before_backup", "backup.copied", "backup.placed",
    *(f"migrate.step_{path.name[:4]}" for path in sorted((SCRIPTS / "versions").glob("[0-9]*.py"))[1:]),
    "migrate.before_check", "migrate.before_commit", "migrate.committed",
)  # fmt: skip


def test_the_points_are_all_that_the_code_has() -> None:
    sources = (SCRIPTS.parent / f"{name}.py" for name in ("migrate", "copies"))
    named = re.compile(r'failpoint\("([a-z_.]+)"\)')
    known = {point for path in sources for point in named.findall(path.read_text())}
    assert known == {point for point in POINTS if "step" not in point}


# Each attempt is a fork of one process, which has imported everything once and has nothing open.
KILLED = """
import json, os, sys
from pathlib import Path
import alembic.command, alembic.config
from storage.engine import open_database

ended = {}
for point, home in json.loads(sys.argv[1]).items():
    child = os.fork()
    if child == 0:
        os.environ["FAILPOINT"] = f"{point}:kill"
        open_database(Path(home))
        os._exit(0)
    ended[point] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(json.dumps(ended))
"""


def test_killed_at_any_point_the_old_schema_or_the_new_one_is_whole_and_the_retry_succeeds(
    tmp_path: Path,
) -> None:
    assert killed_everywhere(tmp_path, RELEASED[0], rows=8, ratings=50) == len(POINTS)


def killed_everywhere(folder: Path, revision: str, rows: int, ratings: int) -> int:
    """Number of kills after which every value was there, at once and after the retry."""
    populate(folder / "whole", revision, rows, ratings)
    engine = upgrader(folder / "whole")
    columns = columns_of(engine)
    before = content_of(engine, columns)
    engine.dispose()
    homes = {point: folder / point for point in POINTS if _is_on_the_way(point, revision)}
    for home in homes.values():
        shutil.copytree(folder / "whole", home)
    asked = json.dumps({point: str(home) for point, home in homes.items()})
    done = subprocess.run(
        [sys.executable, "-c", KILLED, asked], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == dict.fromkeys(homes, -signal.SIGKILL)
    for point, home in homes.items():
        assert schema_of(home) == (head_of() if point == "migrate.committed" else revision)
        for _ in range(2):
            engine = upgrader(home)
            assert content_of(engine, columns) == before
            engine.dispose()
            open_database(home).close()
        assert schema_of(home) == head_of()
        assert not list((home / "backups").glob("*.partial"))
    return len(homes)


def _is_on_the_way(point: str, revision: str) -> bool:
    return not point.startswith("migrate.step_") or point.removeprefix("migrate.step_") > revision


def test_the_backup_before_an_upgrade_is_the_database_as_it_was(home: Path) -> None:
    populate(home, RELEASED[-1], rows=8, ratings=20)
    engine = upgrader(home)
    columns = columns_of(engine)
    columns.pop("worker_beat")  # signs of life are not kept
    before = content_of(engine, columns)
    engine.dispose()
    open_database(home).close()
    (copy,) = (home / "backups").iterdir()
    shutil.rmtree(home / "locks")
    copy.rename(home / "app.db")
    for path in home.glob("app.db-*"):
        path.unlink()
    engine = upgrader(home)
    assert content_of(engine, columns) == before
    assert migrate.current_version(engine) == RELEASED[-1]
    engine.dispose()

"""The schema moves up and down, equals the models, and no change of it loses a rating."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, func, select, text
from sqlalchemy.exc import IntegrityError

from storage import engine, migrate, postgres, ratings
from storage.engine import Database, choose_driver, make_engine, open_database
from storage.errors import SchemaError
from storage.groups import GroupView
from storage.migrate import SCRIPTS, head_of, run_migrations, to_head
from storage.models import RatingEvent
from storage.models_access import LoginSession
from storage.models_judging import Job
from storage.models_studio import Setting
from storage.ratings import RatingInput

REBUILD = """
from alembic import op
import sqlalchemy as sa
from storage.rebuilding import rebuilds

revision, down_revision = "{revision}", "{before}"

def upgrade():
    with op.batch_alter_table("image", recreate=rebuilds()) as batch:
        batch.add_column(sa.Column("note", sa.Text()))
    {more}

def downgrade():
    with op.batch_alter_table("image") as batch:
        batch.drop_column("note")
"""


@pytest.fixture(autouse=True)
def _is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(migrate.ALLOW_VARIABLE, "1")


def upgrader(home: Path, *, foreign_keys: bool = False) -> Engine:
    server = postgres.address_of(os.environ.get(postgres.URL_VARIABLE, "sqlite://"))
    if server is not None:
        return postgres.make_engine(server, pool_size=0, wait_ms=10_000, statement_ms=0)
    module, driver = choose_driver(home)
    url = f"sqlite:///{home / 'app.db'}"
    return make_engine(url, module, driver, pool_size=0, begin="BEGIN IMMEDIATE", foreign_keys=foreign_keys)


def scripts_with_a_next_step(folder: Path, more: str = "pass") -> Path:
    """The product's own migrations and, after them, one that rebuilds a table that ratings point to."""
    scripts = folder / "migrations"
    shutil.copytree(SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    step = REBUILD.format(revision="9000", before=head_of(), more=more)
    (scripts / "versions" / "9000_rebuild.py").write_text(step)
    return scripts


@pytest.fixture
def rated(db: Database, group: GroupView) -> GroupView:
    for number, view in enumerate(group.images):
        ratings.rate(db, RatingInput(f"key-{number}", "local", group.group.id, "stars", view.image.id, 4))
    return group


def num_ratings(db: Database) -> int:
    with db.read() as session:
        return session.scalar(select(func.count()).select_from(RatingEvent)) or 0


def schema_of(engine: Engine) -> dict[str, str]:
    """Name to normalised SQL of each table and index; columns and constraints in any order."""
    if engine.dialect.name == "postgresql":
        return servers_schema(engine)
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").all()
    return {
        name: sorted_parts(sql) for name, sql in rows if name not in ("alembic_version", "sqlite_sequence")
    }


SERVERS_SCHEMA = (
    "SELECT table_name || '.' || column_name, concat_ws(' ', data_type, character_maximum_length,"
    " is_nullable, column_default) FROM information_schema.columns WHERE table_schema = 'public'",
    "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = 'public'::regnamespace",
    "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
)


def servers_schema(engine: Engine) -> dict[str, str]:
    """Name to definition of each column, constraint and index."""
    with engine.connect() as connection:
        rows = [tuple(row) for query in SERVERS_SCHEMA for row in connection.exec_driver_sql(query)]
    return {name: words for name, words in rows if not name.startswith("alembic_version")}


def sorted_parts(sql: str) -> str:
    head, _, body = sql.partition("(")
    lines = (" ".join(line.split()).removesuffix(",") for line in body.rsplit(")", 1)[0].split("\n"))
    named = head.replace('"', "")  # SQLite quotes the name of a table that was rebuilt
    return " ".join(named.split()) + " | " + " | ".join(sorted(line for line in lines if line))


@pytest.fixture
def modelled(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty database of the same kind."""
    with ExitStack() as stack:
        address = f"sqlite:///{tmp_path / 'models.db'}"
        if request.config.getoption("--postgres"):
            server = request.getfixturevalue("postgres_server")
            address = stack.enter_context(server.database("template0")).replace("://", "+psycopg://")
        engine = create_engine(address)
        yield engine
        engine.dispose()


def test_the_migrated_schema_is_the_models_schema_checks_included(db: Database, modelled: Engine) -> None:
    assert Job.metadata is Setting.metadata is LoginSession.metadata
    Job.metadata.create_all(modelled)
    migrated = upgrader(db.home)
    assert schema_of(migrated) == schema_of(modelled)
    with migrated.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Setting.metadata) == []


def test_the_numbers_of_the_files_are_alembics_own_order() -> None:
    directory = ScriptDirectory(str(SCRIPTS))
    assert directory.get_current_head() == head_of()
    for path in (SCRIPTS / "versions").glob("[0-9]*.py"):
        assert directory.get_revision(path.name.split("_")[0]) is not None


def test_every_step_goes_up_down_and_up_again(home: Path) -> None:
    open_database(home).close()
    engine = upgrader(home)
    steps = [step.revision for step in reversed(list(ScriptDirectory(str(SCRIPTS)).walk_revisions()))]
    before = schema_of(engine)
    run_migrations(engine, "downgrade", "base")
    assert schema_of(engine) == {}
    for step in steps:
        run_migrations(engine, "upgrade", step)
        run_migrations(engine, "downgrade", "-1")
        run_migrations(engine, "upgrade", step)
    assert schema_of(engine) == before


def test_rebuilding_a_table_that_ratings_point_to_keeps_every_rating(
    db: Database, rated: GroupView, tmp_path: Path
) -> None:
    to_head(db._reader, upgrader(db.home), db.home, scripts_with_a_next_step(tmp_path))
    assert num_ratings(db) == len(rated.images)
    with db.read() as session:
        assert session.scalar(text("SELECT version_num FROM alembic_version")) == "9000"
        assert not db.is_sqlite or session.execute(text("PRAGMA foreign_key_check")).all() == []


@pytest.mark.sqlite_only("tables are altered where they are")
def test_the_same_rebuild_with_foreign_keys_on_is_what_the_upgrader_avoids(
    db: Database, rated: GroupView, tmp_path: Path
) -> None:
    with pytest.raises(IntegrityError):
        run_migrations(
            upgrader(db.home, foreign_keys=True), "upgrade", "9000", scripts_with_a_next_step(tmp_path)
        )
    assert num_ratings(db) == len(rated.images)


@pytest.mark.parametrize("loss", ["rating_event", "image"])
def test_a_step_that_would_lose_rows_changes_nothing(
    db: Database, rated: GroupView, tmp_path: Path, loss: str
) -> None:
    scripts = scripts_with_a_next_step(tmp_path, f'op.execute("DELETE FROM {loss}")')
    # PostgreSQL keeps the images that ratings point to by itself.
    is_kept = not db.is_sqlite and loss == "image"
    expected = (IntegrityError, "image") if is_kept else (SchemaError, f"would lose rows.*{loss} 2 -> 0")
    with pytest.raises(expected[0], match=expected[1]):
        to_head(db._reader, upgrader(db.home), db.home, scripts)
    assert num_ratings(db) == len(rated.images)
    assert migrate.current_version(db._reader) == head_of()


@pytest.mark.sqlite_only("a server's backup is made with pg_dump")
def test_a_backup_with_all_ratings_stands_before_the_change(
    db: Database, rated: GroupView, tmp_path: Path
) -> None:
    to_head(db._reader, upgrader(db.home), db.home, scripts_with_a_next_step(tmp_path))
    (copy,) = (db.home / "backups").iterdir()
    assert copy.name == f"schema-{head_of()}-before-9000.db"
    connection = sqlite3.connect(copy)
    assert connection.execute("SELECT count(*) FROM rating_event").fetchone() == (len(rated.images),)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


KILLED = """
import sys
from pathlib import Path
from storage.engine import open_database
from storage.migrate import to_head
from tests.storage.test_migrations import upgrader
home, scripts = map(Path, sys.argv[1:])
db = open_database(home)
to_head(db._reader, upgrader(home), home, scripts)
"""


def test_a_kill_in_the_middle_of_the_change_leaves_the_old_schema_and_the_next_start_succeeds(
    db: Database, rated: GroupView, tmp_path: Path
) -> None:
    deadly = scripts_with_a_next_step(tmp_path / "deadly", "import os; os.kill(os.getpid(), 9)")
    root = Path(engine.__file__).parents[1]
    command = [sys.executable, "-c", KILLED, str(db.home), str(deadly)]
    killed = subprocess.run(command, cwd=root, env=os.environ | {"PYTHONPATH": "."}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert migrate.current_version(db._reader) == head_of()
    assert num_ratings(db) == len(rated.images)
    to_head(db._reader, upgrader(db.home), db.home, scripts_with_a_next_step(tmp_path / "good"))
    assert num_ratings(db) == len(rated.images)


@pytest.mark.sqlite_only("a server's backup is made with pg_dump")
def test_only_the_newest_backups_are_kept(db: Database) -> None:
    for number in range(migrate.BACKUPS_KEPT + 2):
        target = db.home / "backups" / f"schema-{number}-before-x.db"
        migrate.back_up(upgrader(db.home), target)
        os.utime(target, (number, number))
    kept = {path.name for path in (db.home / "backups").iterdir()}
    assert len(kept) == migrate.BACKUPS_KEPT
    assert f"schema-{migrate.BACKUPS_KEPT + 1}-before-x.db" in kept


OPEN = """
import sys
from pathlib import Path
from storage.engine import open_database
open_database(Path(sys.argv[1])).close()
"""


def test_many_processes_may_open_a_new_folder_at_once(home: Path) -> None:
    root = Path(engine.__file__).parents[1]
    started = [subprocess.Popen([sys.executable, "-c", OPEN, str(home)], cwd=root) for _ in range(4)]
    assert [process.wait() for process in started] == [0] * 4
    database = open_database(home)
    with database.read() as session:
        assert session.scalar(text('SELECT count(*) FROM "user"')) == 1
    database.close()

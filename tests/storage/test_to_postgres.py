"""A studio's rows go from its SQLite file to a server as they are, all of them, or the server stays empty."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Column, Computed, Engine, Integer, MetaData, Table, select

from storage import migrate
from storage.engine import open_database
from storage.errors import DamagedError, NotSavedError, SchemaError
from storage.migrate import head_of
from storage.models import Record, RunEvent
from storage.models_studio import Setting
from storage.table_copies import Content, columns_of
from storage.to_postgres import to_postgres
from tests.postgres import Server
from tests.storage.populated import RELEASED, own_id, populate
from tests.storage.test_backup import zero_a_page
from tests.storage.test_commands import called
from tests.storage.test_migrations import upgrader

ROWS, RATINGS = 24, 2_500
NOWHERE = "postgresql://studio@127.0.0.1:9/nobody"
"""Never asked: what is refused here is refused before."""
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with rows in every table of its SQLite file."""
    home = tmp_path_factory.mktemp("original") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DATABASE_URL", raising=False)
        populate(home, head_of(), ROWS, RATINGS)
    return home


@pytest.fixture
def studio(original: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stopped studio, a copy of that one."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    shutil.copytree(original, home)
    return home


@pytest.fixture
def empty(postgres_server: Server) -> Iterator[str]:
    """The address of a database without any table."""
    with postgres_server.database("template0") as url:
        yield url


def rows_of(engine: Engine) -> dict[str, list[str]]:
    """Every row of every table in words, in an order of their own."""
    with engine.connect() as connection:
        found = {
            table.name: sorted(_words(row) for row in connection.execute(select(table)))
            for table in Record.metadata.sorted_tables
        }
    engine.dispose()
    return found


def _words(row: Any) -> str:
    return json.dumps(
        [repr(value) if isinstance(value, bytes) else value for value in row], sort_keys=True, default=str
    )


def tables_at(url: str) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert found is not None
    return int(found[0])


def change(home: Path, *statements: str) -> None:
    """Plain SQL in the file; keys and checks are not looked at."""
    connection = sqlite3.connect(home / "app.db")
    connection.execute("PRAGMA ignore_check_constraints=ON")
    for sql in statements:
        connection.execute(sql)
    connection.commit()
    connection.close()


@pytest.mark.postgres_only
def test_every_row_of_every_table_arrives_and_the_studio_goes_on_with_them(
    studio: Path, empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows_of(upgrader(studio))
    assert all(len(rows) >= ROWS for rows in before.values())
    monkeypatch.setenv("DATABASE_URL", empty)
    code, said = called("to-postgres", "--home", str(studio))
    assert code == 0, said
    total = sum(len(rows) for rows in before.values())
    assert f"{RATINGS:,}  rating_event" in said and f"Moved {total:,} rows" in said
    db = open_database(studio)
    assert not db.is_sqlite
    assert rows_of(upgrader(studio)) == before
    with db.write() as session:
        event = RunEvent(run_id=own_id("run", 0), attempt=1, at=datetime.now(UTC), kind="note")
        session.add(event)
        session.flush()
        assert event.id == ROWS + 1
    db.close()
    monkeypatch.delenv("DATABASE_URL")
    assert rows_of(upgrader(studio)) == before, "the file is as it was"


@pytest.mark.postgres_only
def test_a_parent_may_stand_behind_its_child_and_json_keeps_its_numbers(studio: Path, empty: str) -> None:
    numbers = [1e22, -0.0, 1e308, 0.1, 5e-324, 2**63 - 1, 1.0, -1.5e-7]
    change(
        studio,
        f"UPDATE checkpoint SET parent_id = '{own_id('checkpoint', ROWS - 1)}'",
        f"UPDATE setting SET value = '{json.dumps({'n': numbers, 'z': 1, 'a': None})}'",
    )
    assert to_postgres(studio, empty).rows["checkpoint"] == ROWS
    db = open_database(studio, empty)
    with db.read() as session:
        found = session.scalars(select(Setting.value)).first()
    db.close()
    assert found == {"n": [10**22, 0, 10**308, *numbers[3:]], "z": 1, "a": None}


@pytest.mark.postgres_only
def test_a_database_that_is_not_empty_is_left_as_it_is(studio: Path, empty: str) -> None:
    with psycopg.connect(empty) as connection:
        connection.execute("CREATE TABLE of_somebody (id int)")
    with pytest.raises(ValueError, match=r"is not empty, it has 1 tables .of_somebody"):
        to_postgres(studio, empty)
    assert tables_at(empty) == 1
    with psycopg.connect(empty) as connection:
        connection.execute("DROP TABLE of_somebody")
    to_postgres(studio, empty)
    with pytest.raises(ValueError, match="is not empty"):
        to_postgres(studio, empty)


@pytest.mark.postgres_only
def test_a_row_that_the_server_refuses_is_named_by_its_table_and_nothing_stays_there(
    studio: Path, empty: str
) -> None:
    change(studio, "UPDATE rating_event SET value = 9223372036854775807 WHERE rowid = 2000")
    with pytest.raises(NotSavedError, match="did not take the rows of rating_event"):
        to_postgres(studio, empty)
    assert tables_at(empty) == 0


@pytest.mark.postgres_only
def test_what_the_server_changes_on_its_way_in_is_found_and_nothing_stays_there(
    studio: Path, empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trigger = (
        "CREATE FUNCTION spoil() RETURNS trigger AS $$ BEGIN NEW.name := 'x' || NEW.name; RETURN NEW; END $$ "
        "LANGUAGE plpgsql; CREATE TRIGGER spoil BEFORE INSERT ON metric FOR EACH ROW EXECUTE FUNCTION spoil()"
    )
    made = migrate.migrate_in

    def spoiled(connection: Any, direction: str, revision: str) -> None:
        made(connection, direction, revision)
        connection.exec_driver_sql(trigger)

    monkeypatch.setattr(migrate, "migrate_in", spoiled)
    with pytest.raises(NotSavedError, match=f"of {ROWS} rows of metric the server holds {ROWS}, and not the"):
        to_postgres(studio, empty)
    assert tables_at(empty) == 0


KILLED = "import sys; from pathlib import Path; from storage.to_postgres import to_postgres; "
KILLED += "to_postgres(Path(sys.argv[1]), sys.argv[2])"


@pytest.mark.postgres_only
def test_killed_before_the_end_the_server_is_empty_and_the_next_try_succeeds(
    studio: Path, empty: str
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(studio), empty],
        cwd=ROOT,
        env=os.environ | {"FAILPOINT": "to_postgres.before_commit:kill"},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert tables_at(empty) == 0
    assert to_postgres(studio, empty).rows["rating_event"] == RATINGS


@pytest.mark.postgres_only
def test_a_server_that_does_not_answer_is_a_sentence(studio: Path) -> None:
    with pytest.raises(NotSavedError, match="the database server cannot be reached"):
        to_postgres(studio, NOWHERE)


@pytest.mark.parametrize("address", ["", "sqlite:///elsewhere.db"])
def test_without_the_address_of_a_server_nothing_begins(
    studio: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", address)
    code, said = called("to-postgres", "--home", str(studio))
    assert (code, "DATABASE_URL names no PostgreSQL server" in said) == (2, True)


def test_a_studio_that_is_open_elsewhere_is_not_moved(studio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = open_database(studio)
    monkeypatch.setenv("DATABASE_URL", NOWHERE)
    code, said = called("to-postgres", "--home", str(studio))
    db.close()
    assert (code, "is open in another process" in said and "end it first" in said) == (2, True)


def test_a_damaged_file_is_not_moved(studio: Path) -> None:
    zero_a_page(studio / "app.db", "rating_event")
    with pytest.raises(DamagedError, match=r"(?s)damaged .*there is no good backup"):
        to_postgres(studio, NOWHERE)


def test_a_row_that_points_to_nothing_is_damage(studio: Path) -> None:
    change(studio, f"DELETE FROM image WHERE id = '{own_id('image', 3)}'")
    with pytest.raises(DamagedError, match="rows that point to nothing"):
        to_postgres(studio, NOWHERE)


def test_an_older_schema_is_upgraded_first_and_a_newer_one_is_for_a_newer_program(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    populate(home, RELEASED[-1], 8, 8)
    with pytest.raises(SchemaError, match=f"has schema {RELEASED[-1]}.* start the studio once without"):
        to_postgres(home, NOWHERE)
    change(home, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaError, match=r"has schema 9999.* install the newer version"):
        to_postgres(home, NOWHERE)


def test_a_folder_without_a_database_is_refused_and_gets_none(tmp_path: Path) -> None:
    for folder in (tmp_path / "no", tmp_path):
        with pytest.raises(LookupError, match=r"there is no app\.db"):
            to_postgres(folder, NOWHERE)
    (tmp_path / "damaged").mkdir()
    with pytest.raises(DamagedError, match="is missing, though the folder has been used"):
        to_postgres(tmp_path, NOWHERE)
    assert [path.name for path in tmp_path.iterdir()] == ["damaged"]


def test_columns_that_the_database_computes_are_not_written() -> None:
    table = Table("any", MetaData(), Column("a", Integer), Column("b", Integer, Computed("a + 1")))
    assert [column.name for column in columns_of(table)] == ["a"]


def test_content_is_the_same_in_any_order_and_another_one_for_any_other_value() -> None:
    rows = [(number, f"row {number}", {"b": 1.0, "a": [number]}) for number in range(50)]
    mixed = random.Random(0).sample(rows, len(rows))
    assert content(rows) == content([(one, two, {"a": three["a"], "b": 1}) for one, two, three in mixed])
    assert content(rows) != content(rows[:-1])
    assert content(rows) != content([*rows[:-1], rows[0]])
    assert content([("a", None)]) != content([("a", "None")])
    assert content([({"a": 1.5},)]) != content([({"a": 1.25},)])


def content(rows: list[tuple[Any, ...]]) -> Content:
    found = Content()
    for row in rows:
        found.add(row)
    return found

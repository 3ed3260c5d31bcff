"""What is PostgreSQL's alone: settings, the queue of its writers, refusals in words, the change of schema."""

from __future__ import annotations

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from storage import checkpoints, engine, migrate, postgres, ratings, runs, users
from storage.engine import READ_CONNECTIONS, Database, open_database
from storage.errors import NotSavedError, SchemaError, UnreadableError
from storage.groups import GroupView
from storage.models import AppMeta, Image
from storage.ratings import RatingInput
from tests.postgres import FAST, Pristine, Server, running
from tests.storage.test_migrations import scripts_with_a_next_step, upgrader

pytestmark = pytest.mark.postgres_only

SETTINGS = {
    "synchronous_commit": "on",
    "lock_timeout": "10s",
    "statement_timeout": "1min",
    "idle_in_transaction_session_timeout": "1min",
    "TimeZone": "UTC",
    "jit": "off",
}


def settings_of(session: object) -> dict[str, str]:
    return {name: session.scalar(text(f"SHOW {name}")) for name in SETTINGS}  # type: ignore[attr-defined]


def save(db: Database, key: str) -> None:
    with db.write() as session:
        session.add(AppMeta(key=key, value=""))


def save_and(db: Database, key: str, statement: str) -> None:
    with db.write() as session:
        session.add(AppMeta(key=key, value=""))
        session.flush()
        session.execute(text(statement))


def keys(db: Database) -> set[str]:
    with db.read() as session:
        return set(session.scalars(select(AppMeta.key)))


def test_every_connection_has_the_settings_also_after_a_transaction_that_failed(db: Database) -> None:
    with pytest.raises(ZeroDivisionError), db.write():
        raise ZeroDivisionError
    with db.write() as session:
        assert settings_of(session) == SETTINGS
        assert session.scalar(text("SHOW transaction_isolation")) == "read committed"
        assert session.scalar(text("SHOW transaction_read_only")) == "off"
    with db.read() as session:
        assert settings_of(session) == SETTINGS | {"idle_in_transaction_session_timeout": "10min"}
        assert session.scalar(text("SHOW transaction_isolation")) == "repeatable read"
        assert session.scalar(text("SHOW transaction_read_only")) == "on"


def test_the_health_page_names_the_server(db: Database) -> None:
    assert (db.driver.name, db.is_sqlite) == ("PostgreSQL", False)
    assert int(db.driver.version.split(".")[0]) >= 13


def test_a_read_sees_one_moment_however_long_it_lasts(db: Database) -> None:
    with db.read() as session:
        before = set(session.scalars(select(AppMeta.key)))
        save(db, "later")
        assert set(session.scalars(select(AppMeta.key))) == before
    assert keys(db) == before | {"later"}


def test_a_write_sees_what_the_writer_before_it_committed(db: Database, home: Path) -> None:
    other = open_database(home)
    holds, may_go = threading.Event(), threading.Event()

    def first() -> None:
        with other.write() as session:
            session.add(AppMeta(key="first", value=""))
            session.flush()
            holds.set()
            may_go.wait(20)

    def second() -> set[str]:
        with db.write() as session:
            return set(session.scalars(select(AppMeta.key)))

    with ThreadPoolExecutor() as pool:
        pool.submit(first)
        assert holds.wait(20)
        waiting = pool.submit(second)
        assert keys(db) == set()
        assert not waiting.done()
        may_go.set()
        assert waiting.result(20) == {"first"}
    other.close()


def test_a_connection_that_the_server_ended_is_replaced_by_itself(db: Database) -> None:
    save(db, "before")
    assert keys(db) == {"before"}
    end_all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    with pytest.raises(NotSavedError, match="Not saved: the database server cannot be reached"):
        save_and(db, "cut off", end_all)
    save(db, "after")
    assert keys(db) == {"before", "after"}


def test_each_refusal_of_the_server_is_a_sentence(db: Database) -> None:
    states = {
        "53100": "disk of the database server is full",
        "53300": "raise its max_connections",
        "57P01": "cannot be reached",
        "08006": "cannot be reached",
        "40001": "kept the database busy",
        "55P03": "kept the database busy",
        "XX001": "restore a backup",
    }
    raised = "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{}'; END $$"
    for state, sentence in states.items():
        with pytest.raises(NotSavedError, match=f"Not saved: .*{sentence}"), db.write() as session:
            session.execute(text(raised.format(state)))
        with pytest.raises(UnreadableError, match=f"Not read: .*{sentence}"), db.read() as session:
            session.execute(text(raised.format(state)))


def test_a_broken_rule_of_the_tables_stays_a_bug(db: Database) -> None:
    save(db, "a")
    with pytest.raises(IntegrityError):
        save(db, "a")
    assert keys(db) == {"a"}


def test_a_server_that_is_not_there_is_told_without_the_password(
    home: Path, postgres_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    nobody = f"postgresql://studio:my-secret@127.0.0.1:{postgres_server.port}/nothing"
    silent = "postgresql://studio:my-secret@127.0.0.1:1/studio"
    for address, sentence in ((nobody, "has no such database"), (silent, "cannot be reached")):
        with pytest.raises(OSError, match=sentence) as refused:
            open_database(home, address)
        assert "my-secret" not in f"{refused.value} {refused.value.__cause__}"
    assert "my-secret" not in caplog.text


def test_an_open_database_does_not_show_its_password(home: Path) -> None:
    address = os.environ["DATABASE_URL"].replace("studio@", "studio:my-secret@")
    db = open_database(home, address)
    shown = f"{db!r} {vars(db)!r} {db._writer!r} {db._reader.url}"
    db.close()
    assert "my-secret" not in shown


def test_a_server_that_may_lose_what_it_acknowledged_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(postgres.UNSAFE_VARIABLE)
    with pytest.raises(OSError, match="fsync or full_page_writes off"):
        open_database(home)


def test_a_database_of_another_encoding_is_refused(home: Path, postgres_server: Server) -> None:
    name = "latin"
    postgres_server.sql(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(OSError, match="encoding LATIN1: make one with ENCODING 'UTF8'"):
        open_database(home, postgres_server.url(name))
    postgres_server.sql(f"DROP DATABASE {name}")


def test_unsigned_seeds_and_the_ticks_of_a_year_fit(db: Database, group: GroupView) -> None:
    with db.write() as session:
        image = session.get_one(Image, group.images[0].image.id)
        image.seed = 2**32 - 1
    with db.write() as session:
        session.execute(text("UPDATE run_attempt SET pid_start = 3200000000"))


def test_a_server_takes_as_many_reads_at_once_as_it_says(db: Database) -> None:
    with ThreadPoolExecutor(READ_CONNECTIONS * 2) as pool:
        found = list(pool.map(lambda _: keys(db), range(READ_CONNECTIONS * 10)))
    assert found == [set()] * (READ_CONNECTIONS * 10)


def test_tables_with_rows_are_changed_only_once_somebody_allowed_it(
    db: Database, group: GroupView, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ratings.rate(db, RatingInput("a", "local", group.group.id, "skip"))
    scripts = scripts_with_a_next_step(tmp_path)
    with pytest.raises(SchemaError, match="backup with pg_dump, then start once with FLOWGRPO_UPGRADE=1"):
        migrate.to_head(db._reader, upgrader(db.home), db.home, scripts)
    assert migrate.current_version(db._reader) == migrate.head_of()
    monkeypatch.setenv(migrate.ALLOW_VARIABLE, "1")
    migrate.to_head(db._reader, upgrader(db.home), db.home, scripts)
    assert migrate.current_version(db._reader) == "9000"


def test_two_folders_with_one_address_share_their_rows(db: Database, tmp_path: Path) -> None:
    other = open_database(tmp_path / "another folder", os.environ["DATABASE_URL"])
    save(other, "a")
    assert keys(db) == {"a"}
    other.close()


def test_a_server_keeps_what_it_acknowledged_through_a_kill_of_all_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 1_000)
    with running(FAST | {"fsync": "on", "full_page_writes": "on"}) as server:
        db = open_database(tmp_path / "other", server.url("postgres"))
        save(db, "kept")
        server.kill()
        with pytest.raises(NotSavedError, match="cannot be reached"):
            save(db, "lost")
        with pytest.raises(UnreadableError, match="cannot be reached"):
            keys(db)
        server.start()
        save(db, "again")
        assert keys(db) == {"kept", "again"}
        db.close()


def identity(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchone()
    assert row is not None
    return int(row[0])


def test_an_earlier_tests_database_is_as_new_and_is_not_used_where_its_tables_changed(
    postgres_server: Server, tmp_path: Path
) -> None:
    """Of these tests themselves: what one leaves is never found by another."""
    with postgres_server.database() as url:
        stranger = psycopg.connect(url, autocommit=True)
        new, used = Pristine.of(stranger), identity(stranger)
        db = open_database(tmp_path / "first", url)
        run_with_event(db)
        users.prefer(db, users.LOCAL, language="ja")
        db.close()
        assert Pristine.of(stranger) != new
    with postgres_server.database() as url, psycopg.connect(url, autocommit=True) as again:
        assert (identity(again), Pristine.of(again)) == (used, new)
        db = open_database(tmp_path / "second", url)
        assert run_with_event(db) == 1
        db.close()
        with stranger, pytest.raises(psycopg.errors.AdminShutdown):
            stranger.execute("SELECT 1")
        again.execute("CREATE INDEX of_this_test ON run (name)")
    with postgres_server.database() as url, psycopg.connect(url, autocommit=True) as other:
        assert identity(other) != used
        assert Pristine.of(other) == new


def run_with_event(db: Database) -> int:
    """The number of the event of a new run."""
    base = checkpoints.register_base(db, name="starter", source="weights/pipeline", family="sdxl")
    run = runs.create_run(db, name="r", owner_id="local", parent_checkpoint_id=base.id, config={})
    return runs.events(db, run.id)[0].id

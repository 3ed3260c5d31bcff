"""A web that offers tickets and hosts that draw them: each run is started once, by the shim as ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from flowgrpo.runs import process, tickets
from flowgrpo.runs.dispatcher import Dispatcher
from flowgrpo.runs.host import Claims, work
from storage import migrate, runs
from storage.engine import Database
from storage.models import Checkpoint, Run
from tests.runs.helpers import FAKE, ROOT, assert_all_gone, fake, live_processes, state_of, wait_for

pytestmark = pytest.mark.postgres_only

HOST = """
import sys
from pathlib import Path
from flowgrpo.runs.host import work
from storage.engine import open_database
db = open_database(Path(sys.argv[1]))
work(db, (), trainer=tuple(sys.argv[2:]))
db.close()
"""


@pytest.fixture
def web(db: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dispatcher]:
    """The dispatcher of a web that starts no run itself."""
    monkeypatch.setenv(process.HOST_VARIABLE, "web")
    dispatcher = Dispatcher(db, devices=(), claims=tickets.TicketOffice(db).offer).start()
    yield dispatcher
    dispatcher.stop()
    for run in runs.list_runs(db):
        process.end_all(partial(process.marked, process.RUN_MARK, process.mark_of(db.home, run.id)))


def start_host(db: Database, name: str, mode: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", HOST, str(db.home), sys.executable, "-S", str(FAKE), mode]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | {process.HOST_VARIABLE: name})


def num_tickets() -> int:
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        row = connection.execute("SELECT count(*) FROM procrastinate_jobs").fetchone()
    assert row is not None
    return int(row[0])


def test_two_hosts_draw_the_tickets_of_three_runs_and_start_each_once(
    db: Database, base: Checkpoint, web: Dispatcher
) -> None:
    queued = [
        runs.create_run(db, name="a", owner_id="local", parent_checkpoint_id=base.id, config={})
        for _ in range(3)
    ]
    hosts = [start_host(db, name, "done") for name in ("one", "two")]
    wait_for(lambda: {state_of(db, run) for run in queued} == {"completed"}, what="three complete runs")
    assert [runs.get_run(db, run.id).attempt for run in queued] == [1] * 3
    assert {runs.attempts_of(db, run.id)[0].host for run in queued} <= {"one", "two"}
    wait_for(lambda: num_tickets() == 0, what="no ticket left")
    for host in hosts:
        host.send_signal(signal.SIGTERM)
    assert [host.wait(30) for host in hosts] == [0, 0]


def test_a_host_that_is_asked_to_end_leaves_its_run_to_its_next_start(
    db: Database, run: Run, web: Dispatcher
) -> None:
    first = start_host(db, "one", "polite")
    wait_for(lambda: state_of(db, run) == "running", what="the run")
    first.send_signal(signal.SIGTERM)
    assert first.wait(30) == 0
    assert state_of(db, run) == "running"
    second = start_host(db, "one", "polite")
    for pid in live_processes(db, run):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: runs.get_run(db, run.id).attempt == 2, what="the death of the run, seen by its host")
    wait_for(lambda: state_of(db, run) == "running", what="the run again")
    assert [one.host for one in runs.attempts_of(db, run.id)] == ["one", "one"]
    runs.request_stop(db, run.id)
    wait_for(lambda: state_of(db, run) == "stopped", what="stopped")
    assert_all_gone(db, run)
    second.send_signal(signal.SIGTERM)
    assert second.wait(30) == 0


def test_a_host_that_vanishes_with_a_ticket_leaves_its_run_to_another(
    db: Database, run: Run, web: Dispatcher
) -> None:
    first = start_host(db, "one", "polite")
    wait_for(lambda: state_of(db, run) == "running", what="the run")
    first.kill()
    first.wait(30)
    process.end_all(partial(process.marked, process.RUN_MARK, process.mark_of(db.home, run.id)))
    assert runs.move(db, run.id, to="lost", from_states=("running",), attempt=1)  # as other hosts find out
    runs.resume_run(db, run.id)
    second = start_host(db, "two", "polite")
    wait_for(lambda: runs.get_run(db, run.id).attempt == 2, what="the run at the other host")
    assert [one.host for one in runs.attempts_of(db, run.id)] == ["one", "two"]
    runs.request_stop(db, run.id)
    wait_for(lambda: state_of(db, run) == "stopped", what="stopped")
    second.send_signal(signal.SIGTERM)
    assert second.wait(30) == 0


def test_the_ticket_of_a_host_that_is_silent_is_torn_up_and_that_of_one_that_works_is_not(
    db: Database, run: Run, base: Checkpoint
) -> None:
    office = tickets.TicketOffice(db)
    office.offer()
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        (worker,) = connection.execute(
            "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now()) RETURNING id"
        ).fetchone() or (None,)
        connection.execute("UPDATE procrastinate_jobs SET status = 'doing', worker_id = %s", [worker])
        runs.create_run(db, name="b", owner_id="local", parent_checkpoint_id=base.id, config={})
        office.offer()
        assert num_tickets() == 2
        connection.execute("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '2 minutes'")
        runs.create_run(db, name="c", owner_id="local", parent_checkpoint_id=base.id, config={})
        office.offer()
        assert num_tickets() == 2


def test_an_aborted_ticket_stops_its_run_politely(db: Database, run: Run, web: Dispatcher) -> None:
    host = start_host(db, "one", "polite")
    wait_for(lambda: state_of(db, run) == "running", what="the run")
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute("SELECT procrastinate_cancel_job_v1(id, true, false) FROM procrastinate_jobs")
    wait_for(lambda: state_of(db, run) == "stopped", what="stopped")
    host.send_signal(signal.SIGTERM)
    assert host.wait(30) == 0


def test_many_processes_may_make_the_queue_at_once_and_its_rows_are_not_counted(db: Database) -> None:
    threads = [threading.Thread(target=tickets.prepare, args=(db,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert num_tickets() == 0
    with db.read() as session:
        assert not any(name.startswith("procrastinate") for name in migrate.row_counts(session.connection()))


def test_one_run_has_one_ticket_however_often_it_is_offered(db: Database, run: Run) -> None:
    for _ in range(2):
        office = tickets.TicketOffice(db)
        office.offer()
        office.offer()
    assert num_tickets() == 1


def test_the_web_starts_runs_itself_unless_it_is_told_not_to(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not tickets.are_asked_for()
    monkeypatch.setenv(tickets.VARIABLE, "workers")
    assert tickets.are_asked_for()
    monkeypatch.delenv("DATABASE_URL")
    assert not tickets.are_asked_for()


def test_a_claim_is_made_by_the_dispatchers_thread_for_who_holds_a_ticket(run: Run) -> None:
    claims, found = Claims(), list[Run | None]()
    claims.serve(lambda: pytest.fail("nobody asked"))
    thread = threading.Thread(target=lambda: found.append(claims.next()))
    thread.start()
    while thread.is_alive():
        claims.serve(lambda: run)
    assert found == [run]


def test_without_tickets_a_host_ends_where_it_need_not_wait(db: Database, tmp_path: Path) -> None:
    work(db, (), trainer=fake("done"), wait=False)
    assert num_tickets() == 0
    assert runs.list_runs(db) == []

"""Two hosts on one PostgreSQL database and one data folder: each looks after its own runs, and a host that
goes is missed. They are two processes of this machine with the names of two hosts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flowgrpo.runs import layout, process
from flowgrpo.runs.dispatcher import MAX_FRUITLESS_ATTEMPTS, Dispatcher
from flowgrpo.runs.keeper import worker_id
from flowgrpo.runs.neighbours import Neighbours, Stillness
from storage import checkpoints, runs
from storage.attempts import fruitless_attempts
from storage.engine import Database
from storage.models import Checkpoint, Run
from tests.runs.helpers import FAKE, ROOT, assert_all_gone, fake, live_processes, state_of, wait_for
from tests.runs.test_dispatcher import WEB

Host = Callable[[str], subprocess.Popen[bytes]]
MakeHere = Callable[..., Dispatcher]


@pytest.fixture
def host(db: Database) -> Iterator[Host]:
    """Starts the dispatcher of another host with a polite trainer."""
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", WEB, str(db.home), sys.executable, "-S", str(FAKE), "polite"]
        environment = os.environ | {process.HOST_VARIABLE: name}
        started.append(subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, env=environment))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.communicate()
    for run in runs.list_runs(db):
        process.end_all(partial(process.marked, process.RUN_MARK, process.mark_of(db.home, run.id)))


@pytest.fixture
def here(db: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeHere]:
    """Starts the dispatcher of this host."""
    monkeypatch.setenv(process.HOST_VARIABLE, "here")
    made: list[Dispatcher] = []

    def start(silent_seconds: float) -> Dispatcher:
        made.append(Dispatcher(db, devices=(), trainer=fake("polite"), silent_seconds=silent_seconds))
        return made[-1].start()

    yield start
    for dispatcher in made:
        dispatcher.stop()


def host_of_run(db: Database, run: Run) -> str:
    return runs.attempts_of(db, run.id)[-1].host


def is_stopped(db: Database, run: Run) -> bool:
    return state_of(db, run) == "stopped"


def vanish(db: Database, run: Run, web: subprocess.Popen[bytes]) -> None:
    """All processes of a host, as when its power fails; the run keeps none that could hold its lock.

    A run says that it is running before its shim has started the trainer, so that one look at what is there
    may come too early for it: it is looked again until nothing is found.
    """
    web.kill()
    web.wait()
    process.end_all(partial(process.marked, process.RUN_MARK, process.mark_of(db.home, run.id)))


@pytest.mark.postgres_only
def test_each_host_claims_a_run_and_leaves_those_of_the_other_alone(
    db: Database, base: Checkpoint, run: Run, host: Host, here: MakeHere
) -> None:
    web = host("there")
    wait_for(lambda: state_of(db, run) == "running", what="the run there")
    other = runs.create_run(db, name="b", owner_id="local", parent_checkpoint_id=base.id, config={})
    ours = here(silent_seconds=0.0)
    wait_for(lambda: state_of(db, other) == "running", what="the run here")
    assert (host_of_run(db, run), host_of_run(db, other)) == ("there", "here")
    os.kill(web.pid, signal.SIGKILL)  # its web alone: the shim goes on, and holds the lock of its run
    web.wait()
    shim = runs.attempts_of(db, run.id)[-1].pid
    os.kill(shim or 0, signal.SIGSTOP)
    silent = Neighbours(db, "here", silent_seconds=0.0)
    assert silent.lost_runs() == []  # no sign of life, and yet alive
    os.kill(shim or 0, signal.SIGCONT)
    assert ours.is_active
    for one in (run, other):
        assert (state_of(db, one), runs.get_run(db, one.id).attempt) == ("running", 1)
        runs.request_stop(db, one.id)
        wait_for(partial(is_stopped, db, one), what="stopped")
        assert_all_gone(db, one)


@pytest.mark.postgres_only
def test_a_run_of_a_host_that_has_gone_is_lost_and_claimed_by_another(
    db: Database, run: Run, host: Host, here: MakeHere
) -> None:
    web = host("there")
    wait_for(lambda: state_of(db, run) == "running", what="the run there")
    vanish(db, run, web)
    here(silent_seconds=1.0)
    wait_for(lambda: state_of(db, run) == "running" and host_of_run(db, run) == "here", what="the run here")
    (lost,) = [event for event in runs.events(db, run.id) if event.to_state == "lost"]
    assert "Nothing more was heard of the host there, which had the run at update 0 of 4." in lost.detail
    assert runs.get_run(db, run.id).attempt == 2
    runs.request_stop(db, run.id)
    wait_for(lambda: state_of(db, run) == "stopped", what="stopped")
    assert_all_gone(db, run)


@pytest.mark.postgres_only
def test_a_host_that_comes_back_finds_its_run_elsewhere_and_ends_its_own_attempt(
    db: Database, run: Run, host: Host
) -> None:
    there = host("there")
    wait_for(lambda: state_of(db, run) == "running", what="the run there")
    there.send_signal(signal.SIGSTOP)  # it would claim the run that it lost
    runs.move(db, run.id, to="lost", from_states=("running",), attempt=1)
    runs.resume_run(db, run.id)
    runs.claim_run(db, host="here", boot_id="boot")
    assert_all_gone_of(db, run)
    now = runs.get_run(db, run.id)
    assert (now.state, now.attempt, host_of_run(db, run)) == ("starting", 2, "here")


def assert_all_gone_of(db: Database, run: Run) -> None:
    """The next beat, at most five seconds away, tells the shim that another attempt has the run."""
    wait_for(lambda: not live_processes(db, run), seconds=20.0, what="the end of the first attempt")


@pytest.mark.postgres_only
def test_locks_and_logs_of_hosts_stand_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for name in ("gpu-1", "gpu 2:a"):
        monkeypatch.setenv(process.HOST_VARIABLE, name)
        found.append(layout.worker_lock(tmp_path, "cuda:0").relative_to(tmp_path))
        assert worker_id(tmp_path, "cuda:0").count(":") == 2
    assert found == [Path("locks/gpu-1/worker-cuda-0.lock"), Path("locks/gpu-2-a/worker-cuda-0.lock")]
    monkeypatch.delenv(process.HOST_VARIABLE)
    assert process.host_of(tmp_path)
    assert not (tmp_path / "locks" / "host").exists()


@pytest.mark.sqlite_only("a file has one host")
def test_the_one_host_of_a_file_keeps_its_name_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = process.host_of(tmp_path)
    monkeypatch.setenv(process.HOST_VARIABLE, "another")
    assert process.host_of(tmp_path) == name
    assert layout.host_folder(tmp_path) == tmp_path / "locks"


def test_a_run_that_takes_every_host_along_is_not_claimed_for_ever(db: Database, run: Run) -> None:
    for attempt in range(1, MAX_FRUITLESS_ATTEMPTS + 1):
        assert fruitless_attempts(db, run.id) < MAX_FRUITLESS_ATTEMPTS
        runs.claim_run(db, host=f"host {attempt}", boot_id="boot")
        runs.move(db, run.id, to="lost", from_states=("starting",), attempt=attempt)
        runs.resume_run(db, run.id)
    assert fruitless_attempts(db, run.id) == MAX_FRUITLESS_ATTEMPTS


def test_a_checkpoint_shows_that_a_run_got_somewhere(db: Database, run: Run) -> None:
    for attempt in range(1, MAX_FRUITLESS_ATTEMPTS + 1):
        runs.claim_run(db, host="host", boot_id="boot")
        runs.move(db, run.id, to="running", from_states=("starting",), attempt=attempt)
        where: dict[str, Any] = {"name": "x", "path": f"runs/x/checkpoints/{attempt}", "sha256": "0" * 64}
        checkpoints.commit_checkpoint(db, run_id=run.id, attempt=attempt, update=attempt, **where)
        runs.move(db, run.id, to="lost", from_states=("running",), attempt=attempt)
        runs.resume_run(db, run.id)
    assert fruitless_attempts(db, run.id) == 0


def test_stillness_counts_only_the_time_in_which_somebody_looked() -> None:
    now = [0.0]
    watch = Stillness(lambda: now[0])

    def look(at: float, sign: str) -> float:
        now[0] = at
        return watch.look({"a": sign})["a"]

    assert look(1, "x") == 0
    assert look(2, "x") == 1
    assert look(1000, "x") == 5  # the database was away: what was not seen is not held against anybody
    assert look(1001, "y") == 0
    assert look(1002, "y") == 1
    watch.look({})
    assert look(1003, "y") == 0

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flowgrpo.runs import dispatcher as dispatcher_module
from flowgrpo.runs import layout, process
from flowgrpo.runs.dispatcher import Dispatcher
from storage import checkpoints, runs
from storage.attempts import fruitless_attempts
from storage.engine import Database, open_database
from storage.locks import is_held
from storage.models import Checkpoint, Run
from tests.runs.helpers import (
    FAKE,
    ROOT,
    MakeDispatcher,
    assert_all_gone,
    fake,
    live_processes,
    state_of,
    wait_for,
)

WEB = """
import sys
from pathlib import Path
from flowgrpo.runs.dispatcher import Dispatcher
from storage.engine import open_database
db = open_database(Path(sys.argv[1]))
Dispatcher(db, devices=(), trainer=tuple(sys.argv[2:])).start()
sys.stdin.read()
"""


IDLE = (sys.executable, "-S", "-c", "import sys; sys.stdin.read()")
"""A worker that never works."""
CLAIMER = """
import os, sys
from pathlib import Path
from storage import runs
from storage.engine import open_database
db = open_database(Path(sys.argv[1]))
while (run := runs.claim_run(db, host=os.urandom(8).hex(), boot_id="boot")) is not None:
    print(run.id)
"""


def _running(db: Database, run: Run) -> Path:
    folder = layout.run_folder(db.home, run.id)
    wait_for(lambda: (folder / "trainer.pid").exists() and state_of(db, run) == "running", what="running")
    return folder


def _shim(db: Database, run: Run) -> int:
    pid = runs.attempts_of(db, run.id)[-1].pid
    assert pid is not None
    return pid


def test_a_second_dispatcher_stays_passive_until_the_first_goes(
    db: Database, dispatch: MakeDispatcher
) -> None:
    first = dispatch()
    wait_for(lambda: first.is_active)
    second = dispatch()
    for _ in range(20):
        assert not second._runs.try_for()
    first.stop()
    wait_for(lambda: second.is_active, what="the second to take over")
    assert not first.is_active


def test_a_run_goes_on_without_the_web_and_is_adopted_by_the_next(
    db: Database, run: Run, dispatch: MakeDispatcher
) -> None:
    web = subprocess.Popen(
        [sys.executable, "-c", WEB, str(db.home), sys.executable, "-S", str(FAKE), "polite"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
    )
    _running(db, run)
    web.send_signal(signal.SIGKILL)
    web.communicate()
    shim = _shim(db, run)
    adopter = dispatch("polite")
    wait_for(lambda: adopter.is_active, seconds=5.0, what="the next dispatcher")
    for _ in range(4):
        adopter.tick_runs()
    assert state_of(db, run) == "running"
    assert runs.get_run(db, run.id).attempt == 1
    assert _shim(db, run) == shim
    runs.request_stop(db, run.id)
    wait_for(lambda: state_of(db, run) == "stopped", seconds=10.0, what="stopped")
    assert_all_gone(db, run)


def test_a_dispatcher_that_ends_lets_go_of_a_shim_without_complaint(
    db: Database, run: Run, dispatch: MakeDispatcher
) -> None:
    """Warnings are errors here, and Popen has one for a child that nobody waits for."""
    dispatcher = dispatch("polite")
    _running(db, run)
    dispatcher.stop()
    assert not dispatcher.executor._shims
    assert state_of(db, run) == "running"
    runs.request_stop(db, run.id)
    wait_for(lambda: state_of(db, run) == "stopped", seconds=10.0, what="stopped")
    assert_all_gone(db, run)


def test_a_dead_shim_is_noticed_within_seconds_and_leaves_no_process(
    db: Database, run: Run, dispatch: MakeDispatcher
) -> None:
    dispatch("deaf")
    folder = _running(db, run)
    first = int((folder / "trainer.pid").read_text())
    os.kill(_shim(db, run), signal.SIGKILL)
    wait_for(lambda: "lost" in _states(db, run), seconds=10.0, what="lost")
    assert not process.is_alive(first, process.start_of(first) or 0)
    (lost,) = [one for one in runs.events(db, run.id) if one.to_state == "lost"]
    assert "interrupted" in lost.detail


def test_a_run_that_comes_to_no_checkpoint_is_started_three_times_and_then_given_up_in_words(
    db: Database, run: Run, dispatch: MakeDispatcher
) -> None:
    dispatch("deaf", orphan_seconds=0.1)
    for attempt in (1, 2, 3):
        wait_for(lambda: _is_at(db, run, attempt), what=f"attempt {attempt}")  # noqa: B023
        os.kill(_shim(db, run), signal.SIGKILL)
    wait_for(lambda: state_of(db, run) == "failed", what="failed")
    reason = runs.get_run(db, run.id).reason or ""
    assert "started 3 times in a row and never came to a new checkpoint" in reason
    assert_all_gone(db, run)
    runs.resume_run(db, run.id)  # a person may try again, and the count begins anew
    wait_for(lambda: _is_at(db, run, 4), what="attempt 4")
    os.kill(_shim(db, run), signal.SIGKILL)
    wait_for(lambda: _is_at(db, run, 5), what="attempt 5, by itself")


def _is_at(db: Database, run: Run, attempt: int) -> bool:
    now = runs.get_run(db, run.id)
    return (now.state, now.attempt) == ("running", attempt)


def _states(db: Database, run: Run) -> list[str | None]:
    return [event.to_state for event in runs.events(db, run.id)]


@pytest.mark.sqlite_only("a copied folder has the server's rows")
def test_a_copied_folder_ends_no_process_of_the_run_that_it_was_copied_from(
    db: Database, run: Run, dispatch: MakeDispatcher, tmp_path: Path
) -> None:
    """Someone copies a folder in use, to look at it or to keep it, and opens the copy on the same machine."""
    dispatch("polite")
    _running(db, run)
    shutil.copytree(db.home, tmp_path / "copy")
    copy = open_database(tmp_path / "copy")
    reader = Dispatcher(copy, devices=(), trainer=fake("polite"), orphan_seconds=0.1).start()
    try:
        wait_for(lambda: _is_at(copy, run, 2), seconds=10.0, what="taken up in the copy")
        runs.request_stop(copy, run.id)
        wait_for(lambda: state_of(copy, run) == "stopped", seconds=10.0, what="stopped in the copy")
    finally:
        reader.stop()
        reader.executor.stop(run.id)
        copy.close()
    assert live_processes(db, run) and state_of(db, run) == "running"
    runs.request_stop(db, run.id)
    wait_for(lambda: state_of(db, run) == "stopped", seconds=10.0, what="stopped")


def test_a_lost_run_with_a_new_checkpoint_goes_on_by_itself(
    db: Database, run: Run, dispatch: MakeDispatcher
) -> None:
    dispatch("polite")
    _running(db, run)
    checkpoints.commit_checkpoint(
        db,
        run_id=run.id,
        attempt=1,
        update=2,
        name="Run 1",
        path="runs/x/checkpoints/000002",
        sha256="0" * 64,
    )
    os.kill(_shim(db, run), signal.SIGKILL)
    wait_for(lambda: _is_at(db, run, 2), what="resumed")
    assert "lost" in _states(db, run)
    assert fruitless_attempts(db, run.id) == 1


def test_a_stopped_run_whose_shim_dies_is_stopped(db: Database, run: Run, dispatch: MakeDispatcher) -> None:
    dispatch("deaf", grace_seconds=60.0)
    _running(db, run)
    runs.request_stop(db, run.id)
    wait_for(lambda: state_of(db, run) == "stopping")
    os.kill(_shim(db, run), signal.SIGKILL)
    wait_for(lambda: state_of(db, run) == "stopped", what="stopped")
    assert_all_gone(db, run)


def test_runs_wait_for_each_other(db: Database, base: Checkpoint, run: Run, dispatch: MakeDispatcher) -> None:
    other = runs.create_run(
        db, name="second", owner_id="local", parent_checkpoint_id=base.id, config={"num_updates": 1}
    )
    dispatch("polite")
    _running(db, run)
    assert state_of(db, other) == "queued"
    runs.request_stop(db, run.id)
    wait_for(lambda: state_of(db, other) == "running", what="the second run")
    assert state_of(db, run) == "stopped"


def test_a_run_whose_shim_never_begins_is_given_up_after_three_attempts(
    db: Database, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatcher = Dispatcher(db, devices=())
    monkeypatch.setattr(dispatcher.executor, "start", lambda *_: None)
    for _ in range(12):
        dispatcher.tick_runs()
    ended = runs.get_run(db, run.id)
    assert (ended.state, ended.attempt) == ("failed", 3)


def test_a_reboot_ends_the_attempts_of_the_last_boot_and_starts_them_again(db: Database, run: Run) -> None:
    claimed = runs.claim_run(db, host=process.host_of(db.home), boot_id="the last boot")
    assert claimed is not None
    runs.record_attempt(db, run.id, 1, pid=os.getpid(), pid_start=process.start_of(os.getpid()))
    dispatcher = Dispatcher(db, devices=(), trainer=fake("polite"))
    dispatcher.tick_runs()
    (lost,) = [one for one in runs.events(db, run.id) if one.to_state == "lost"]
    assert "The machine was restarted" in lost.detail
    assert runs.get_run(db, run.id).attempt == 2  # and goes on by itself
    wait_for(lambda: _is_at(db, run, 2), what="the next attempt")
    dispatcher.executor.stop(run.id)
    dispatcher.executor.reap()


def test_a_run_whose_process_cannot_be_started_leaves_its_lock_free(db: Database, run: Run) -> None:
    layout.run_log(db.home, run.id).mkdir(parents=True)  # a folder where the log should be
    Dispatcher(db, devices=()).tick_runs()
    ended = runs.get_run(db, run.id)
    assert ended.state == "failed"
    assert "could not be started" in (ended.reason or "")
    assert not is_held(layout.run_lock(db.home, run.id))


def test_a_dispatcher_of_runs_alone_leaves_the_engines_to_another(
    db: Database, dispatch: MakeDispatcher
) -> None:
    command_line = dispatch()
    wait_for(lambda: command_line.is_active)
    web = Dispatcher(db, devices=("cpu",), worker=IDLE).start()
    try:
        wait_for(lambda: web.keepers[0].pid, what="the engine of the second")
        assert not web.is_active
    finally:
        web.stop()
    assert not is_held(layout.engines_lock(db.home))


def test_runs_go_on_where_no_engine_can_be_started(db: Database, run: Run) -> None:
    dispatcher = Dispatcher(db, devices=("cpu",), trainer=fake("done"), worker=("/nowhere/python",)).start()
    try:
        wait_for(lambda: state_of(db, run) == "completed", what="the end of the run")
        assert_all_gone(db, run)
    finally:
        dispatcher.stop()


def test_a_bug_met_in_one_round_does_not_end_the_dispatcher(
    db: Database, run: Run, dispatch: MakeDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, broken = runs.claim_run, threading.Event()

    def breaks(db: Database, **who: str) -> Run | None:
        if broken.is_set():
            return claim(db, **who)
        broken.set()
        raise ValueError("a bug")

    monkeypatch.setattr(dispatcher_module, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(runs, "claim_run", breaks)
    dispatch("done")
    wait_for(lambda: state_of(db, run) == "completed", what="the end of the run")
    assert broken.is_set()


@pytest.mark.sqlite_only("one of several hosts is known by its name")
def test_a_renamed_machine_finds_the_runs_of_its_former_name(
    db: Database, run: Run, dispatch: MakeDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = dispatch("polite")
    folder = _running(db, run)
    first.stop()
    monkeypatch.setattr(socket, "gethostname", lambda: "another-name")
    adopter = dispatch("polite")
    wait_for(lambda: adopter.is_active)
    os.kill(_shim(db, run), signal.SIGKILL)
    wait_for(lambda: "lost" in _states(db, run), what="a run that is looked after")
    assert folder.exists()


def test_four_processes_claim_each_run_once(db: Database, base: Checkpoint) -> None:
    config = {"num_updates": 1}
    made = [
        runs.create_run(db, name=f"run {i}", owner_id="local", parent_checkpoint_id=base.id, config=config).id
        for i in range(24)
    ]
    claimers = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, str(db.home)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    claimed = [line for claimer in claimers for line in claimer.communicate()[0].split()]
    assert sorted(claimed) == sorted(made)

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from flowgrpo.rewards.children import Child, locks_of_the_tree
from flowgrpo.runs import residence
from flowgrpo.runs.process import RUN_MARK
from flowgrpo.runs.residence import Residence, is_exclusive, locks_folder
from flowgrpo.runs.worker import WAITS_FOR, WEIGHTS, Worker
from storage import groups, runs, users, workers
from storage.engine import Database
from storage.locks import FileLock, GaveUpError
from storage.models import Checkpoint, Run
from tests.runs.helpers import ROOT, SAMPLING, begin, new_run, train, wait_for
from ui.queue import queue_html
from ui.services import Services

RESIDENT = """
import sys, time
from flowgrpo.runs.residence import Residence
home = Residence("cuda:0")
home.take(lambda: False, is_urgent=sys.argv[1] == "run")
print("in", time.monotonic(), flush=True)
if sys.argv[1] == "worker":
    while not home.is_wanted():
        time.sleep(0.01)
elif sys.argv[1] == "parent":
    import subprocess
    subprocess.Popen(["sleep", sys.argv[2]], close_fds=False, stdout=subprocess.DEVNULL)
elif sys.argv[1] == "plug-in":
    from flowgrpo.rewards.children import Child
    child = Child("x", ["sleep", sys.argv[2]])
    print(child.process.pid, flush=True)
    time.sleep(60)
else:
    time.sleep(float(sys.argv[2]))
    print("out", time.monotonic(), flush=True)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(residence.FOLDER_VARIABLE, str(tmp_path / "devices"))
    return tmp_path / "devices"


def resident(kind: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-S", "-c", RESIDENT, kind, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def is_in(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().startswith("in ")


def ended(process: subprocess.Popen[str]) -> int:
    process.communicate()
    return process.returncode


def test_a_gpu_has_one_resident_and_a_cpu_is_shared_unless_somebody_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert is_exclusive("cuda:0") and is_exclusive("mps") and not is_exclusive("cpu")
    monkeypatch.setenv(residence.SHARE_VARIABLE, "1")
    assert not is_exclusive("cuda:0")
    monkeypatch.setenv(residence.SHARE_VARIABLE, "0")
    assert is_exclusive("cpu")


def test_the_locks_of_devices_are_in_no_folder_that_a_service_has_to_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(residence.FOLDER_VARIABLE)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert locks_folder() == Path(f"/dev/shm/flowgrpo-devices-{os.getuid()}")


def test_a_worker_makes_room_for_a_run_and_the_next_worker_waits_for_its_end() -> None:
    worker = resident("worker")
    is_in(worker)
    run = resident("run", "0.5")
    is_in(run)
    assert ended(worker) == 0
    started = time.monotonic()
    again = resident("run", "0")
    is_in(again)
    assert time.monotonic() - started > 0.3
    assert (ended(run), ended(again)) == (0, 0)


ITSELF = """
import os, sys, time
from flowgrpo.runs.residence import Residence
home, until = Residence("cuda:0"), time.monotonic() + 5
home.take(lambda: time.monotonic() > until)
if sys.argv[1] == "first":
    home.end_at_exec()
    os.execv(sys.executable, [*sys.orig_argv[:-1], "again"])
print(sys.argv[1])
"""


def test_who_becomes_a_new_program_does_not_wait_for_itself() -> None:
    command = [sys.executable, "-S", "-c", ITSELF, "first"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout == "again\n"


def test_a_device_is_free_only_when_the_last_who_inherited_the_lock_has_gone() -> None:
    parent = resident("parent", "1")
    is_in(parent)
    assert ended(parent) == 0
    other = Residence("cuda:0")
    with pytest.raises(GaveUpError):
        other.take(lambda: True)
    other.take(lambda: False)
    other.leave()


def test_a_resident_that_is_killed_leaves_the_device_free() -> None:
    run = resident("run", "60")
    is_in(run)
    run.kill()
    ended(run)
    with Residence("cuda:0").hold(lambda: True), pytest.raises(GaveUpError):
        Residence("cuda:0").take(lambda: True)  # it is really held, by who came after the dead


def test_never_two_at_once_of_many_who_come_and_go_and_are_killed() -> None:
    """Eight residents, every second one killed once it is in: no two stays overlap."""
    stays: list[tuple[float, float]] = []

    def follow(process: subprocess.Popen[str], is_killed: bool) -> None:
        assert process.stdout is not None
        since = float(process.stdout.readline().split()[1])
        if is_killed:
            time.sleep(0.05)
            until = time.monotonic()
            process.kill()
        else:
            until = float(process.stdout.readline().split()[1])
        stays.append((since, until))
        ended(process)

    several = [(resident("run", "60" if n % 2 else "0.05"), bool(n % 2)) for n in range(8)]
    threads = [threading.Thread(target=follow, args=one) for one in several]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    assert len(stays) == 8
    for (_, until), (since, _) in pairwise(sorted(stays)):
        assert since >= until


def test_a_run_says_that_it_waits_for_its_device_and_begins_when_it_is_free(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(residence.SHARE_VARIABLE, "0")
    run = begin(db, new_run(db, tiny, num_updates=1, samples=0))
    engine, said = Residence("cpu", "cpu-0"), []

    def make_room() -> None:
        wait_for(engine.is_wanted, what="the run to ask for its device")
        wait_for(lambda: (beat := runs.beat_of(db, run.id)) and beat.phase.startswith("waiting"))
        said.append("made room")
        engine.leave()

    engine.take(lambda: False)
    thread = threading.Thread(target=make_room)
    thread.start()
    train(db, run)
    thread.join()
    assert said == ["made room"]
    beat = runs.beat_of(db, run.id)
    assert beat is not None and beat.update == 1
    engine.take(lambda: True)  # the run has left
    engine.leave()


def test_an_engine_ends_to_make_room_and_leaves_what_it_had_in_work_in_the_queue(
    db: Database, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(residence.SHARE_VARIABLE, "0")
    worker = Worker(db, "cpu", WEIGHTS)
    config = SAMPLING | {"num_steps": 100}
    seeds = list(range(64))
    group = groups.request_group(db, prompt="a", checkpoint_id=tiny.id, config=config, seeds=seeds)
    thread = threading.Thread(target=worker.loop, daemon=True)
    thread.start()
    wait_for(lambda: groups.get_group(db, group.id).group.state == "running", what="the group in work")
    run = Residence("cpu", "cpu-0")
    asking = threading.Thread(target=lambda: run.take(lambda: False, is_urgent=True), daemon=True)
    asking.start()
    thread.join(60.0)
    assert not thread.is_alive()
    assert groups.get_group(db, group.id).group.state == "queued"
    worker.residence.leave()  # as the end of its process does
    asking.join(10.0)
    assert workers.worker_status(db)[0].detail == "made room for a run"
    run.leave()


def test_a_group_that_waits_for_a_run_to_leave_the_device_is_told_so(
    db: Database, base: Checkpoint, run: Run
) -> None:
    begin(db, run)
    services, me = Services(db), users.get_user(db, "local")
    assert "has the device to itself" not in queue_html(services, me)
    workers.worker_beat(db, worker_id="w", pid=1, state="starting", detail=f"{WAITS_FOR} run 1, which has it")
    assert "Run 1 has the device to itself" in queue_html(services, me)


def test_who_is_told_to_stop_while_it_waits_for_the_device_has_nothing(folder: Path) -> None:
    first, second = Residence("cuda:0"), Residence("cuda:0")
    waited: list[int] = []
    with first.hold(lambda: False):
        with pytest.raises(GaveUpError):
            second.take(lambda: len(waited) > 1, lambda: waited.append(os.getpid()), is_urgent=True)
        assert not first.is_wanted()
    assert len(waited) == 2
    second.take(lambda: False)
    second.leave()


def test_a_plug_in_that_outlives_who_started_it_keeps_the_device() -> None:
    """The lock goes to the child, and giving the device up gives up nothing for a process that lives on."""
    home, other = Residence("cuda:0"), Residence("cuda:0")
    home.take(lambda: False)
    child = Child("stubborn", ["sleep", "60"])
    home.leave()
    with pytest.raises(GaveUpError):
        other.take(lambda: True)
    child.end()
    other.take(lambda: True)
    other.leave()


def test_a_plug_in_that_outlives_a_killed_run_keeps_the_device_and_carries_the_mark_of_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(RUN_MARK, "the run")
    command = [sys.executable, "-c", RESIDENT, "plug-in", "60"]
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    is_in(run)
    assert run.stdout is not None
    child = psutil.Process(int(run.stdout.readline()))
    run.kill()
    ended(run)
    assert child.environ()[RUN_MARK] == "the run"
    other = Residence("cuda:0")
    with pytest.raises(GaveUpError):
        other.take(lambda: True)
    child.kill()
    other.take(lambda: False)
    other.leave()


def test_children_get_locks_and_nothing_else_that_is_open(tmp_path: Path) -> None:
    lock, turn = FileLock(tmp_path / "a.lock"), FileLock(tmp_path / "b.lock", is_shared=False)
    before = locks_of_the_tree()
    source, sink = os.pipe()
    os.set_inheritable(sink, True)
    with lock, turn, (tmp_path / "plain").open("w"):
        assert locks_of_the_tree() == tuple(sorted({*before, lock.fd}))
    os.close(source)
    os.close(sink)
    assert locks_of_the_tree() == before

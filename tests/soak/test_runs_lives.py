"""Runs through starts, kills and stops at random: one training at a time, nothing left, nothing lost."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import Random

import psutil
import pytest

from flowgrpo.runs import layout, process
from flowgrpo.runs.dispatcher import Dispatcher
from flowgrpo.runs.runner import GRACE_SECONDS
from storage import checkpoints, runs
from storage.engine import Database, open_database
from storage.locks import is_held
from storage.log_files import files_of
from storage.models import Checkpoint, Run
from tests.runs.helpers import FAKE, ROOT, fake, live_processes, state_of, wait_for
from tests.runs.test_dispatcher import WEB

Figure = Callable[[str, str], None]
SIZE = float(os.environ.get("SOAK_SIZE", "1"))
"""Share of the full numbers, for a first look."""
LINE = re.compile(rb"^line (\d+)$", re.MULTILINE)


def times(full: int) -> int:
    return max(2, round(full * SIZE))


def new(db: Database, base: Checkpoint) -> Run:
    config = {"num_updates": 4, "prompts": ["red hair"]}
    return runs.create_run(db, name="a", owner_id="local", parent_checkpoint_id=base.id, config=config)


def trainers(db: Database) -> list[psutil.Process]:
    """Every live fake trainer of this data folder."""
    found = []
    for one in psutil.process_iter(["cmdline"]):
        line = one.info["cmdline"] or []
        if line[1:3] == ["-S", str(FAKE)] and str(db.home) in line:
            found.append(one)
    return found


def dispatcher(db: Database, mode: str, grace: float = 0.5, orphans: float = 0.3) -> Dispatcher:
    made = Dispatcher(db, devices=(), trainer=fake(mode), grace_seconds=grace, orphan_seconds=orphans)
    return made.start()


def shim_of(db: Database, run: Run) -> int:
    pid = wait_for(lambda: runs.attempts_of(db, run.id)[-1:] and runs.attempts_of(db, run.id)[-1].pid)
    assert isinstance(pid, int)
    return pid


def is_running(db: Database, run: Run) -> bool:
    pid = layout.run_folder(db.home, run.id) / "trainer.pid"
    return state_of(db, run) == "running" and pid.exists()


def web(db: Database, mode: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WEB, str(db.home), sys.executable, "-S", str(FAKE), mode]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE)


def bury(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.communicate()


@pytest.mark.timeout(7200)
def test_never_two_trainings_whatever_starts_is_killed_or_stopped(
    db: Database, base: Checkpoint, figure: Figure
) -> None:
    chance, acts, most = Random(0), times(500), 0
    webs = [web(db, "polite")]
    for _ in range(3):
        new(db, base)
    try:
        for _ in range(acts):
            time.sleep(chance.uniform(0.0, 0.3))
            act(db, base, chance, webs)
            most = max(most, len(trainers(db)))
            assert most <= 1
            assert_free_means_empty(db)
        come_to_rest(db)
        assert trainers(db) == []
        for run in runs.list_runs(db):
            assert left_after(db, run, seconds=5.0) == []
            assert not is_held(layout.run_lock(db.home, run.id))
    finally:
        end_all(db, webs)
    figure(
        "random starts, kills, restarts: trainings at once; processes left", f"{most}; 0 after {acts} acts"
    )


def come_to_rest(db: Database) -> None:
    """Stops whatever is left as a person would; nothing is killed by this test."""

    def is_quiet() -> bool:
        left = [run for run in runs.list_runs(db) if run.state not in runs.AT_REST]
        for run in left:
            runs.request_stop(db, run.id)
        return not left

    wait_for(is_quiet, seconds=60.0, what="the end of all runs")


def assert_free_means_empty(db: Database) -> None:
    """A run whose lock is free has no trainer: nothing that computes outlives the lock."""
    for run in runs.list_runs(db)[:5]:
        at_work = [one.pid for one in trainers(db) if run.id in one.info["cmdline"]]
        if at_work and not is_held(layout.run_lock(db.home, run.id)):
            assert not any(psutil.pid_exists(pid) and is_running_process(pid) for pid in at_work)


def is_running_process(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def act(db: Database, base: Checkpoint, chance: Random, webs: list[subprocess.Popen[bytes]]) -> None:
    """One of what can happen: a kill of web, shim or trainer, a second web, a stop, a new run, a resume."""
    what = chance.choice(["web", "second", "shim", "trainer", "stop", "new", "resume"])
    if what == "web":
        bury(webs.pop(0))
        webs.append(web(db, "polite"))
    elif what == "second" and len(webs) < 2:
        webs.append(web(db, "polite"))
    elif what in ("new", "resume"):
        queue_up(db, base, what)
    else:
        hurt(db, chance, what)


def queue_up(db: Database, base: Checkpoint, what: str) -> None:
    known = runs.list_runs(db)
    if what == "new" and sum(run.state == "queued" for run in known) < 3:
        new(db, base)
    for run in known[:3] if what == "resume" else []:
        if run.state in runs.RESUMABLE:
            with suppress(ValueError):  # the dispatcher was faster
                runs.resume_run(db, run.id)


def hurt(db: Database, chance: Random, what: str) -> None:
    """The run that is active: its shim, its trainer, or a polite request."""
    active = [run for run in runs.list_runs(db) if run.state in runs.ACTIVE]
    if what == "trainer" and (found := trainers(db)):
        with suppress(psutil.Error):
            chance.choice(found).kill()
    elif what == "stop" and active:
        runs.request_stop(db, active[0].id)
    elif what == "shim" and active:
        attempt = runs.attempts_of(db, active[0].id)[-1]
        if attempt.pid and process.is_alive(attempt.pid, attempt.pid_start):
            with suppress(ProcessLookupError):
                os.kill(attempt.pid, signal.SIGKILL)


def end_all(db: Database, webs: list[subprocess.Popen[bytes]]) -> None:
    for one in webs:
        bury(one)
    for run in runs.list_runs(db):
        process.end_all(lambda: process.marked(process.RUN_MARK, process.mark_of(db.home, run.id)))  # noqa: B023


@pytest.mark.timeout(3600)
def test_a_killed_web_costs_a_run_neither_time_nor_a_line_of_its_log(
    db: Database, base: Checkpoint, figure: Figure
) -> None:
    chance, kills, slowest, run = Random(1), times(50), 0.0, new(db, base)
    alive = web(db, "chatty")
    wait_for(lambda: is_running(db, run), what="a run")
    shim, trainer = shim_of(db, run), trainers(db)[0].pid
    try:
        for _ in range(kills):
            time.sleep(chance.uniform(0.0, 0.5))
            bury(alive)
            alive = web(db, "chatty")
            started = time.monotonic()
            wait_for(
                lambda: is_held(layout.dispatcher_lock(db.home)), seconds=30.0, what="the next dispatcher"
            )
            slowest = max(slowest, time.monotonic() - started)
            assert (state_of(db, run), shim_of(db, run)) == ("running", shim)
            assert [one.pid for one in trainers(db)] == [trainer]
        runs.request_stop(db, run.id)
        wait_for(lambda: state_of(db, run) == "stopped", what="stopped")
    finally:
        end_all(db, [alive])
    said = b"".join(path.read_bytes() for path in files_of(layout.run_log(db.home, run.id)))
    numbers = [int(number) for number in LINE.findall(said)]
    assert numbers == list(range(len(numbers)))
    figure(
        "web killed: adopted within; lines of the log missing",
        f"{slowest:.1f} s at {kills} kills; 0 of {len(numbers):,}",
    )
    assert slowest <= 5.0


@pytest.mark.timeout(3600)
def test_a_killed_shim_is_lost_soon_and_leaves_no_process(
    db: Database, base: Checkpoint, figure: Figure
) -> None:
    chance, kills, slowest = Random(2), times(50), 0.0
    looking = dispatcher(db, "deaf", orphans=10.0)
    try:
        for _ in range(kills):
            run = new(db, base)
            shim = shim_of(db, run)
            time.sleep(chance.uniform(0.0, 1.0))
            tree = [(pid, process.start_of(pid)) for pid in live_processes(db, run) if pid != shim]
            os.kill(shim, signal.SIGKILL)
            killed = time.monotonic()
            wait_for(lambda: _is_lost(db, run), seconds=30.0, what="lost")  # noqa: B023
            slowest = max(slowest, time.monotonic() - killed)
            assert [pid for pid, start in tree if process.is_alive(pid, start)] == []
            assert [one.pid for one in trainers(db) if one.info["cmdline"][-2:] == [run.id, "1"]] == []
            looking.executor.stop(run.id)
            runs.request_stop(db, run.id)
            wait_for(lambda: state_of(db, run) in runs.ENDED, what="the end")  # noqa: B023
            looking.executor.stop(run.id)
    finally:
        looking.stop()
    assert trainers(db) == []
    figure("shim killed: lost within; processes left", f"{slowest:.1f} s at {kills} kills; 0")
    assert slowest <= 15.0


def _is_lost(db: Database, run: Run) -> bool:
    return any(event.to_state in ("lost", "failed") for event in runs.events(db, run.id))


def left_after(db: Database, run: Run, seconds: float) -> list[int]:
    """Processes of a run that are there so long after its end; the shim itself needs a moment to leave."""
    deadline = time.monotonic() + seconds
    while (left := live_processes(db, run)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


@pytest.mark.timeout(7200)
def test_a_stop_ends_every_process_whatever_its_children_do(db: Database, figure: Figure) -> None:
    """Children that ignore SIGTERM, that have a session of their own, no parent, or are stopped."""
    stops = times(100)
    slowest, survivors = stop_often(db, [number % 3 == 0 for number in range(stops)], grace=1.0)
    figure(
        "stop: gone within the grace period and; survivors",
        f"{slowest - 1:.1f} s; {survivors} of {stops} stops",
    )
    assert survivors == 0 and slowest < 1.0 + 5.0


FOLDERS = 10
"""Data folders whose runs are stopped at the same time: most of a stop is waiting."""


@pytest.mark.timeout(7200)
def test_a_stop_that_waits_the_whole_grace_of_a_studio_is_over_within_five_seconds_more(
    tmp_path: Path, figure: Figure
) -> None:
    chance, stops = Random(4), times(100)
    turns = [chance.random() < 1 / 3 for _ in range(stops)]
    with ThreadPoolExecutor(FOLDERS) as pool:
        each = [open_database(tmp_path / str(number)) for number in range(FOLDERS)]
        done = list(pool.map(stop_often, each, (turns[number::FOLDERS] for number in range(FOLDERS))))
    slowest = max(seconds for seconds, _ in done)
    survivors = sum(left for _, left in done)
    figure(
        "stop with a grace of 60 s: gone within; survivors", f"{slowest:.1f} s; {survivors} of {stops} stops"
    )
    assert survivors == 0 and slowest < 65.0


def stop_often(db: Database, are_frozen: list[bool], grace: float = GRACE_SECONDS) -> tuple[float, int]:
    """Seconds that the slowest of some stops took in one data folder, and processes that outlived theirs."""
    slowest, survivors = 0.0, 0
    base = checkpoints.register_base(db, name="starter", source="weights/pipeline", family="sdxl")
    looking = dispatcher(db, "stubborn", grace=grace)
    try:
        for is_frozen in are_frozen:
            run = new(db, base)
            wait_for(lambda: is_running(db, run), what="a run")  # noqa: B023
            if is_frozen:
                trainers(db)[0].send_signal(signal.SIGSTOP)
            runs.request_stop(db, run.id)
            asked = time.monotonic()
            wait_for(lambda: state_of(db, run) == "stopped", seconds=90.0, what="stopped")  # noqa: B023
            wait_for(lambda: not is_held(layout.run_lock(db.home, run.id)), seconds=10.0)  # noqa: B023
            slowest = max(slowest, time.monotonic() - asked)
            survivors += len(left_after(db, run, seconds=5.0))
    finally:
        looking.stop()
        db.close()
    return slowest, survivors


CLAIM = """
import multiprocessing, sys
from pathlib import Path
from storage import runs
from storage.engine import open_database

def claim_all(home, host, all_ready):
    db, claimed = open_database(home), []
    all_ready.wait()
    while (run := runs.claim_run(db, host=host, boot_id="boot")) is not None:
        claimed.append(run.number)
        runs.move(db, run.id, to="failed", from_states=("starting",), attempt=run.attempt)
    print("".join(f"{number}\\n" for number in claimed), end="", flush=True)

fork = multiprocessing.get_context("fork")
all_ready = fork.Barrier(16)
for number in range(16):
    fork.Process(target=claim_all, args=(Path(sys.argv[1]), f"host {number}", all_ready)).start()
"""


@pytest.mark.timeout(1800)
def test_sixteen_processes_claim_two_hundred_runs_each_once(
    db: Database, base: Checkpoint, figure: Figure
) -> None:
    numbers = [new(db, base).number for _ in range(times(200))]
    command = [sys.executable, "-c", CLAIM, str(db.home)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert sorted(map(int, said.split())) == numbers
    figure("a run is claimed once by 16 processes", f"{len(numbers)} of {len(numbers)}")

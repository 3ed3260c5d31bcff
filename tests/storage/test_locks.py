"""A lock lives as long as its last holder, and a turnstile hands the device to whoever waits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from storage import locks
from storage.locks import FileLock, Turnstile, is_held

ROOT = Path(locks.__file__).parents[1]


def start(code: str, *args: object, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, args)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, text=True, **pipes, **options)  # type: ignore[call-overload,no-any-return]


def test_a_lock_is_held_once_and_free_again(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "x.lock"
    assert not is_held(path)
    with FileLock(path) as lock:
        assert is_held(path)
        assert not FileLock(path).acquire(blocking=False)
        with pytest.raises(RuntimeError, match="held already"):
            lock.acquire()
    assert not is_held(path)
    with pytest.raises(RuntimeError, match="acquire it first"):
        _ = lock.fd


def test_a_probe_never_makes_an_attempt_fail(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    probe = start(
        "import sys; from pathlib import Path; from storage.locks import is_held\n"
        "print('probing', flush=True)\n"
        "while True: is_held(Path(sys.argv[1]))",
        path,
    )
    assert probe.stdout is not None
    probe.stdout.readline()
    for _ in range(200):
        lock = FileLock(path)
        assert lock.acquire(blocking=False)
        lock.release()
    probe.kill()
    probe.communicate()


def test_a_child_that_inherited_the_lock_holds_it_alone_until_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    lock = FileLock(path)
    lock.acquire()
    child = start("import sys; print('here', flush=True); sys.stdin.readline()", pass_fds=(lock.fd,))
    assert child.stdout is not None
    child.stdout.readline()
    lock.hand_over()
    assert is_held(path)
    child.kill()
    child.communicate()
    assert not is_held(path)


def test_a_child_can_adopt_and_release_for_the_whole_tree(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    lock = FileLock(path)
    lock.acquire()
    code = (
        "import sys; from pathlib import Path; from storage.locks import FileLock\n"
        "FileLock.adopt(Path(sys.argv[1]), int(sys.argv[2])).release()"
    )
    start(code, path, lock.fd, pass_fds=(lock.fd,)).communicate()
    assert not is_held(path)
    lock.release()


TURNS = """
import os, sys
from pathlib import Path
from storage.locks import Turnstile
home, name, others, turns = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
stile, order = Turnstile(home, "cpu"), home / "order"
print("ready", flush=True)
sys.stdin.readline()
for _ in range(turns):
    with stile.turn():
        with open(order, "a") as file:
            file.write(name)
        # Holds on until somebody waits, unless all others have had all their turns.
        while not stile.is_wanted() and any(order.read_text().count(other) < turns for other in others):
            os.sched_yield()
"""


def take_turns(home: Path, names: str, turns: int) -> str:
    """Each of `names` is a process that wants the device all the time; returns who had it, in order."""
    started = [start(TURNS, home, name, names.replace(name, ""), turns) for name in names]
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        process.communicate()
        assert process.returncode == 0
    return (home / "order").read_text()


def test_two_processes_that_always_want_the_device_take_turns(tmp_path: Path) -> None:
    order = take_turns(tmp_path, "ab", 100)
    assert order in ("ab" * 100, "ba" * 100)


def test_of_three_nobody_waits_for_more_than_the_others_who_came_before(tmp_path: Path) -> None:
    order = take_turns(tmp_path, "abc", 40)
    assert [order.count(name) for name in "abc"] == [40, 40, 40]
    everybody_wants = order[: min(order.rindex(name) for name in "abc")]
    assert all(len(set(everybody_wants[i : i + 2])) == 2 for i in range(len(everybody_wants) - 1))


def test_a_turnstile_says_when_somebody_waits(tmp_path: Path) -> None:
    stile = Turnstile(tmp_path, "cpu")
    with stile.turn():
        assert not stile.is_wanted()
        waiting = start(TURNS, tmp_path, "a", "", 1)
        assert waiting.stdin is not None
        waiting.stdin.write("go\n")
        waiting.stdin.flush()
        while not stile.is_wanted():
            os.sched_yield()
        assert not (tmp_path / "order").exists()
    waiting.communicate()
    assert (tmp_path / "order").read_text() == "a"
    assert not stile.is_wanted()


HOLD = """
import sys
from pathlib import Path
from storage.locks import Turnstile
with Turnstile(Path(sys.argv[1]), "cpu").turn():
    print("in", flush=True)
    sys.stdin.readline()
"""


def test_killed_holders_and_waiters_stop_nobody_and_leave_nothing(tmp_path: Path) -> None:
    stile = Turnstile(tmp_path, "cpu")
    holder = start(HOLD, tmp_path)
    assert holder.stdout is not None
    holder.stdout.readline()
    waiter = start(HOLD, tmp_path)
    while not stile.is_wanted():
        os.sched_yield()
    for process in (waiter, holder):
        process.kill()
        process.communicate()
    with stile.turn():
        pass
    assert list((tmp_path / "cpu.tickets").iterdir()) == []

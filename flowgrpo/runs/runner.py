"""The shim: owns the process tree of one attempt of a run, from the first process to the last.

It holds the run's lock (inherited by its whole tree), beats, passes a request to stop on, and writes how
the run ended once nothing of it is left. It imports no torch: small, and no crash of the trainer is its own.

    python -m flowgrpo.runs.runner --home H [--lock-fd N] [--grace SECONDS] RUN_ID ATTEMPT [-- TRAINER]
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from logging.handlers import WatchedFileHandler
from pathlib import Path

import psutil

from flowgrpo.runs import afterwards, exits, layout, process
from flowgrpo.runs.log_writer import drain, open_log
from flowgrpo.runs.patience import attempt_write, insist
from flowgrpo.runs.stalls import StallWatch
from storage import groups, runs
from storage.engine import Database, open_database
from storage.locks import FileLock
from storage.masking import log_to, mask
from storage.models import RunState

BEAT_SECONDS = float(os.environ.get("FLOWGRPO_BEAT_SECONDS", "5"))
"""Between two beats, and two looks at whether the run moves."""
STOP_CHECK_SECONDS = 0.5
POLL_SECONDS = 0.1
GRACE_SECONDS = 60.0
"""From the request to stop to SIGKILL: an update, a checkpoint, and some."""
END_SECONDS = 3600.0
"""How long the end of a run is tried to be written: a full disk may take a person to mend."""
_log = logging.getLogger(__name__)


@dataclass
class Shim:
    """One attempt: its rows, its trainer process, and whether it was asked to stop."""

    db: Database
    run_id: str
    attempt: int
    command: list[str]
    grace_seconds: float = GRACE_SECONDS
    is_asked: bool = False
    """Somebody asked for the run to stop, by its row or by SIGTERM to this process."""
    was_killed: bool = False
    """The trainer did not end within the grace period."""
    has_hung: bool = False
    """The trainer stood still for so long that the rules of this studio ended it."""
    _writer: subprocess.Popen[bytes] | None = None
    """Writes the run's log, as long as anybody of its tree has something to say."""

    def run(self) -> int:
        """Runs the attempt to its end; returns the trainer's exit code, 0 when it was not its turn."""
        signal.signal(signal.SIGTERM, self._ask)
        signal.signal(signal.SIGINT, self._ask)
        process.become_subreaper()
        if not self._begin():
            return 0
        for said in (layout.reason_file, layout.code_file):
            said(self.db.home, self.run_id).unlink(missing_ok=True)
        try:
            code = self._own_code(self._watch(self._start()))
        except OSError as error:
            _log.error("the trainer could not be started: %s", error)
            code = 127
        self._sweep()
        self._finish(code)
        return code

    def _start(self) -> subprocess.Popen[bytes]:
        """The trainer. What it says goes to a writer, which this process may leave alone by dying."""
        path = layout.run_log(self.db.home, self.run_id)
        self._writer = writer = open_log(path, os.environ)
        assert writer.stdin is not None
        with writer.stdin as pipe:
            return subprocess.Popen(
                self.command, start_new_session=True, close_fds=False, stdout=pipe, stderr=subprocess.STDOUT
            )

    def _own_code(self, code: int) -> int:
        """What the trainer itself ended with, where it said so before its launcher failed for it."""
        said = layout.code_file(self.db.home, self.run_id)
        return int(said.read_text()) if code > 0 and said.exists() else code

    def _ask(self, *_: object) -> None:
        self.is_asked = True

    def _begin(self) -> bool:
        start = process.start_of(os.getpid())
        insist(
            "attempt",
            lambda: runs.record_attempt(self.db, self.run_id, self.attempt, pid=os.getpid(), pid_start=start),
        )
        return insist("start", lambda: self._move("running", ("starting",)))

    def _move(self, to: RunState, from_states: tuple[RunState, ...], reason: str | None = None) -> bool:
        return runs.move(
            self.db, self.run_id, to=to, from_states=from_states, attempt=self.attempt, reason=reason
        )

    def _watch(self, trainer: subprocess.Popen[bytes]) -> int:
        """Waits for the trainer to end, beating; once asked to stop, no longer than the grace period."""
        beat_at = check_at = 0.0
        watch = StallWatch(
            self.db, self.run_id, self.attempt, lambda: self._but_writer(process.descendants())
        )
        while (code := trainer.poll()) is None:
            now = time.monotonic()
            if now >= beat_at:
                beat_at = now + BEAT_SECONDS
                if attempt_write("beat", lambda: runs.beat(self.db, self.run_id, self.attempt)) is False:
                    _log.error("the run has moved on to another attempt: this one ends")
                    return self._kill(trainer)
                if watch.look() == "end":
                    self.has_hung = True
                    return self._kill(trainer)
            if now >= check_at:
                check_at = now + STOP_CHECK_SECONDS
                requested = attempt_write("stop flag", lambda: runs.stop_requested(self.db, self.run_id))
                self.is_asked = self.is_asked or bool(requested)
            if self.is_asked:
                return self._stop(trainer)
            time.sleep(POLL_SECONDS)
        return code

    def _stop(self, trainer: subprocess.Popen[bytes]) -> int:
        attempt_write("stopping", lambda: self._move("stopping", ("running",)))
        process.signal_group(trainer.pid, signal.SIGTERM)
        deadline = time.monotonic() + self.grace_seconds
        beat_at = 0.0
        while (code := trainer.poll()) is None:
            if time.monotonic() >= deadline:
                self.was_killed = True
                return self._kill(trainer)
            if time.monotonic() >= beat_at:
                beat_at = time.monotonic() + BEAT_SECONDS
                attempt_write("beat", lambda: runs.beat(self.db, self.run_id, self.attempt))
            time.sleep(POLL_SECONDS)
        return code

    def _kill(self, trainer: subprocess.Popen[bytes]) -> int:
        process.signal_group(trainer.pid, signal.SIGKILL)
        return trainer.wait()

    def _sweep(self) -> None:
        """Ends what the trainer left behind: children in other sessions, data workers, double forks."""
        mark = process.mark_of(self.db.home, self.run_id)
        swept = process.end_all(lambda: self._but_writer(process.descendants()))
        swept += process.end_all(lambda: self._but_writer(process.marked(process.RUN_MARK, mark)))
        if self._writer is not None:
            drain(self._writer)
        process.reap_orphans()
        if swept:
            _log.warning("%d processes outlived the trainer and were ended", swept)

    def _but_writer(self, found: list[psutil.Process]) -> list[psutil.Process]:
        """The log's writer ends by itself once nobody is left to write; until then it is needed."""
        own = self._writer.pid if self._writer is not None else None
        return [one for one in found if one.pid != own]

    def _finish(self, code: int) -> None:
        state = exits.state_after(code, stop_requested=self.is_asked)
        reason = self._reason(code, state)
        if not self._was_replaced():
            close_sample_groups(self.db, self.run_id)
        active = tuple(s for s in runs.ACTIVE if state in runs.MOVES[s])
        insist(
            "end of attempt",
            lambda: runs.end_attempt(
                self.db, self.run_id, self.attempt,
                exit_code=code if code >= 0 else None, signal=-code if code < 0 else None, reason=reason,
            ),
            seconds=END_SECONDS,
        )  # fmt: skip
        insist("end of run", lambda: self._move(state, active, reason), seconds=END_SECONDS)
        if state == "completed":
            self._hand_on()

    def _was_replaced(self) -> bool:
        """Whether a later attempt, perhaps on another host, draws its own samples now."""
        run = insist("attempt", lambda: runs.get_run(self.db, self.run_id), seconds=END_SECONDS)
        return run.attempt != self.attempt

    def _hand_on(self) -> None:
        """A complete run stays one, whatever comes of the test that follows it."""
        try:
            attempt_write("blind test", partial(afterwards.ask_annotators, self.db, self.run_id))
        except (ValueError, LookupError) as error:
            _log.warning("no blind test follows: %s", error)

    def _reason(self, code: int, state: RunState) -> str | None:
        if state == "completed":
            return None
        if self.was_killed:
            return f"The run did not stop within {self.grace_seconds:.0f} s and was ended by force."
        if self.has_hung:
            return "The run stood still and was ended, as the rules of this studio say. It can be resumed."
        said = layout.reason_file(self.db.home, self.run_id)
        first = mask(said.read_text(errors="replace").strip()) if said.exists() else ""
        first = first or exits.sentence(code)
        if state != "failed":
            return first
        tail = layout.log_tail(layout.run_log(self.db.home, self.run_id))
        return "\n".join([first, "", "End of the log:", *tail]) if tail else first


def close_sample_groups(db: Database, run_id: str) -> None:
    """Fails the sample grids that a run left half drawn; nobody else would ever finish them."""
    reason = "The run ended while it drew these samples: resume it to draw them again."
    for group in groups.orphaned_groups(db, painter_id(run_id)):
        attempt_write("sample grid", partial(groups.fail_group, db, group.id, reason))


def painter_id(run_id: str) -> str:
    """The worker id under which a trainer draws its own sample grids."""
    return f"run:{run_id}"


def main(argv: list[str] | None = None) -> int:
    """Entry point of the shim's process."""
    parser = argparse.ArgumentParser(description="Runs one attempt of a FlowGRPO run.")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--lock-fd", type=int)
    parser.add_argument("--grace", type=float, default=GRACE_SECONDS)
    parser.add_argument("run_id")
    parser.add_argument("attempt", type=int)
    parser.add_argument("trainer", nargs="*")
    given = parser.parse_args(argv)
    log = WatchedFileHandler(layout.run_log(given.home, given.run_id), delay=True)  # others rotate it
    log_to(log, "%(asctime)s shim %(levelname)s %(message)s")
    path = layout.run_lock(given.home, given.run_id)
    lock = FileLock(path) if given.lock_fd is None else FileLock.adopt(path, given.lock_fd)
    if given.lock_fd is None and not lock.acquire(blocking=False):
        parser.error(f"run {given.run_id} has a live process already: stop it first")
    os.environ[process.RUN_MARK] = process.mark_of(given.home, given.run_id)
    trainer = given.trainer or [sys.executable, "-m", "flowgrpo.runs.train"]
    command = [*trainer, "--home", str(given.home), given.run_id, str(given.attempt)]
    db = open_database(given.home)
    code = Shim(db, given.run_id, given.attempt, command, given.grace).run()
    db.close()
    lock.hand_over()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())

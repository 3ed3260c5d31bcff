"""The one thread per data folder and host that turns queued runs into processes and keeps rows true to them.

It runs in the web process, or in any other that opens the folder. An flock elects one for the runs and
another one the keeper of the engine workers; the others look on and take over when it goes. Runs outlive
it: after a restart it adopts what it finds alive. Where hosts share a PostgreSQL database each looks after
its own runs, and after those of a host that has gone.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from flowgrpo.runs import layout, process
from flowgrpo.runs.bad_device import DeviceWatch
from flowgrpo.runs.executors import LocalExecutor
from flowgrpo.runs.keeper import WORKER, WorkerKeeper
from flowgrpo.runs.neighbours import SILENT_SECONDS, Neighbours
from flowgrpo.runs.patience import insist
from flowgrpo.runs.runner import GRACE_SECONDS, close_sample_groups
from storage import runs
from storage.attempts import fruitless_attempts
from storage.engine import Database
from storage.errors import ANY, UNAVAILABLE
from storage.locks import FileLock
from storage.models import Run, RunAttempt, RunState

POLL_SECONDS = 0.5
ORPHAN_SECONDS = 10.0
"""How long the processes of a dead shim may take to save and leave."""
MAX_FRUITLESS_ATTEMPTS = 3
"""Attempts in a row that made no checkpoint, after which a run is not started again by itself."""
RETRY: tuple[type[Exception], ...] = (*UNAVAILABLE, OSError)
"""What the next round may not meet again."""
BUGS: tuple[type[Exception], ...] = (*ANY, ValueError, LookupError, RuntimeError)
"""What no round should meet, and what should not end the care for the other runs either."""
PAUSE_SECONDS = 5.0
"""After one of those."""
_BRAKE = (
    f"It was started {MAX_FRUITLESS_ATTEMPTS} times in a row and never came to a new checkpoint, so it is "
    "not started again by itself: see the end of its log, then resume it."
)
_log = logging.getLogger(__name__)


Claims = Callable[[Callable[[], Run | None]], object]


def at_once(claim: Callable[[], Run | None]) -> None:
    """Runs are claimed here as soon as they may start."""
    claim()


class _Election:
    """Won by whoever holds the lock, until it resigns or dies; the file's time is its last sign of life."""

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path)
        self.is_won = False

    def try_for(self) -> bool:
        self.is_won = self.is_won or self._lock.acquire(blocking=False)
        if self.is_won:
            with suppress(OSError):
                os.utime(self._lock.path)
        return self.is_won

    def resign(self) -> None:
        self.is_won = False
        self._lock.release()


class Dispatcher:
    """Claims runs, starts and adopts their shims, marks the dead, keeps the engine worker warm.

    Args:
        db: the data folder.
        devices: one engine worker each; none for a dispatcher of runs alone.
        trainer, worker: commands, without the arguments that name the work.
        grace_seconds: how long a run may take to stop before it is killed.
        orphan_seconds: how long the processes of a dead shim may take to leave before they are killed.
        silent_seconds: after how long without a sign of life another host has gone.
        claims: calls what it is given, or not, each round: that claims the next run and starts it here.
    """

    def __init__(
        self,
        db: Database,
        *,
        devices: Sequence[str] = ("auto",),
        trainer: Sequence[str] | None = None,
        worker: Sequence[str] = WORKER,
        grace_seconds: float = GRACE_SECONDS,
        orphan_seconds: float = ORPHAN_SECONDS,
        silent_seconds: float = SILENT_SECONDS,
        claims: Claims = at_once,
    ) -> None:
        self.db = db
        self.executor = LocalExecutor(db.home, trainer=trainer, grace_seconds=grace_seconds)
        self.keepers = [WorkerKeeper(db, device, worker) for device in devices]
        self.orphan_seconds = orphan_seconds
        self._runs = _Election(layout.dispatcher_lock(db.home))
        self._engines = _Election(layout.engines_lock(db.home))
        self._host, self._boot = process.host_of(db.home), process.boot_id()
        self._neighbours = Neighbours(db, self._host, silent_seconds)
        self._claims = claims
        self.device_watch = DeviceWatch(db, self._host)
        self._orphaned_since: dict[str, float] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="dispatcher", daemon=True)

    @property
    def is_active(self) -> bool:
        """Whether this dispatcher was elected for the runs; a passive one changes none."""
        return self._runs.is_won

    def start(self) -> Dispatcher:
        """Starts the thread; returns itself."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Ends the thread and the engine worker. Runs go on; the next dispatcher adopts them."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _loop(self) -> None:
        try:
            while not self._ending.is_set():
                self._round()
                self._ending.wait(POLL_SECONDS)
        finally:
            for keeper in self.keepers:
                keeper.stop()
            self.device_watch.stop()
            self.executor.let_go()
            self._engines.resign()
            self._runs.resign()

    def _round(self) -> None:
        """Engines and runs do not share a fate: trouble with the one leaves the other looked after."""
        if self.keepers:
            self._try(self._engines, self.tick_engines)
        self._try(self._runs, self.tick_runs)

    def _try(self, election: _Election, tick: Callable[[], None]) -> None:
        try:
            if election.try_for():
                tick()
        except RETRY as error:
            _log.warning("the dispatcher will try again: %s", error)
        except BUGS:
            _log.exception("the dispatcher will try again in %.0f s", PAUSE_SECONDS)
            self._ending.wait(PAUSE_SECONDS)

    def tick_engines(self) -> None:
        """One round of the engine workers: started, buried, started again."""
        for keeper in self.keepers:
            keeper.tick()

    def tick_runs(self) -> None:
        """One round of the runs: those that should be alive, then the next queued one."""
        self.executor.reap()
        for run in runs.active_runs(self.db, self._host):
            self._look_after(run)
        for run, attempt in self._neighbours.lost_runs():
            self._give_up(run, attempt)
        if not self.device_watch.is_bad():
            self._claims(self._claim)

    def _claim(self) -> Run | None:
        """The next queued run, started here."""
        claimed = runs.claim_run(self.db, host=self._host, boot_id=self._boot)
        if claimed is not None:
            self._launch(claimed)
        return claimed

    def _launch(self, run: Run) -> None:
        self.executor.stop(run.id)
        try:
            self.executor.start(run.id, run.attempt)
        except OSError as error:
            reason = f"The run's process could not be started: {error}."
            self._move(run, "failed", reason)

    def _look_after(self, run: Run) -> None:
        attempt = runs.attempts_of(self.db, run.id)[-1]
        liveness = self.executor.probe(run.id, attempt.pid, attempt.pid_start)
        if attempt.boot_id != self._boot:
            liveness = "gone"
        if liveness == "alive":
            self._orphaned_since.pop(run.id, None)
        elif liveness == "orphaned":
            since = self._orphaned_since.setdefault(run.id, time.monotonic())
            if time.monotonic() - since > self.orphan_seconds:
                self.executor.stop(run.id)
        else:
            self._orphaned_since.pop(run.id, None)
            self._give_up(run, attempt)

    def _give_up(self, run: Run, attempt: RunAttempt) -> None:
        """The processes have gone without a word: queued again, unless that led nowhere again and again."""
        now = runs.get_run(self.db, run.id)
        if now.state not in runs.ACTIVE or now.attempt != attempt.attempt:
            return  # the shim wrote the end of the run between our two looks
        self.executor.stop(run.id)
        close_sample_groups(self.db, run.id)
        reason = self._what_happened(run, attempt)
        insist("end", lambda: runs.end_attempt(self.db, run.id, attempt.attempt, reason=reason), seconds=10.0)
        if run.stop_requested_at is not None:
            self._move(run, "stopped", reason)
        elif fruitless_attempts(self.db, run.id) < MAX_FRUITLESS_ATTEMPTS:
            if self._move(run, "lost", reason):
                runs.resume_run(self.db, run.id)
        else:
            reason = f"{reason} {_BRAKE}"
            tail = self.executor.logs(run.id)
            self._move(run, "failed", "\n".join([reason, "", "End of the log:", *tail]) if tail else reason)

    def _move(self, run: Run, to: RunState, reason: str) -> bool:
        return runs.move(self.db, run.id, to=to, from_states=(run.state,), attempt=run.attempt, reason=reason)

    def _what_happened(self, run: Run, attempt: RunAttempt) -> str:
        beat = runs.beat_of(self.db, run.id)
        where = f" at update {beat.update} of {beat.num_updates}" if beat is not None else ""
        if attempt.host != self._host:
            return (
                f"Nothing more was heard of the host {attempt.host}, which had the run{where or ' starting'}."
            )
        if attempt.boot_id != self._boot:
            return f"The machine was restarted while the run was{where or ' starting'}."
        return f"The run was interrupted{where}: its processes have gone without a word."

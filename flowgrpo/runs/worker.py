"""The engine worker: one process per device that draws and scores groups, and evaluates and fits in between.

It stays warm, takes turns with a training run on the same device, and ends when its dispatcher has gone.

    python -m flowgrpo.runs.worker --home H [--device auto] [--weights FOLDER]
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, get_args

import torch

from flowgrpo.rewards.stack import EMBEDDED, load_stack
from flowgrpo.runs import layout
from flowgrpo.runs.device import Turns, describe, identity, resolve, use_all_cores
from flowgrpo.runs.generation import CanceledError, InterruptedDrawingError, Painter
from flowgrpo.runs.job_kinds import KINDS
from flowgrpo.runs.jobs import Bench, Work, do
from flowgrpo.runs.keeper import MADE_ROOM, UNTIL_STDIN_CLOSES, worker_id
from flowgrpo.runs.patience import attempt_write, insist
from flowgrpo.runs.process import host_of
from flowgrpo.runs.publishing import RewardCards
from flowgrpo.runs.residence import Residence
from flowgrpo.runs.reward_options import options_for
from flowgrpo.runs.room import Room
from flowgrpo.runs.score_cache import StoredScores
from flowgrpo.runs.shelf import PolicyShelf
from storage import checkpoints, groups, jobs, runs, workers
from storage.courtesy import ATTENDED, step_back
from storage.engine import Database, open_database
from storage.errors import UNAVAILABLE
from storage.locks import FileLock, GaveUpError
from storage.masking import log_to
from storage.models import ImageGroup, WorkerState
from storage.models_judging import Job

WEIGHTS = Path(__file__).resolve().parents[1] / "starter" / "weights"
IDLE_SECONDS = 0.1
"""Between two looks into the queue."""
BEAT_SECONDS = 5.0
WAITS_FOR = "waits for"
EXIT_SECONDS = 20.0
"""A step that lasts longer than this is not waited for when the dispatcher has gone."""
REFUSALS: tuple[type[Exception], ...] = (ValueError, LookupError, *UNAVAILABLE)
"""Errors whose text is a sentence for the person who asked."""
_log = logging.getLogger(__name__)


class Beacon:
    """Says what the worker does, at each change and every few seconds, however long a step takes."""

    def __init__(self, db: Database, name: str) -> None:
        self.db = db
        self.name = name
        self._state: WorkerState = "starting"
        self._detail = ""
        self._changed = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._beat, name="beacon", daemon=True)
        self._thread.start()

    def say(self, state: WorkerState, detail: str | None = None) -> None:
        """Changes what is said."""
        assert state in get_args(WorkerState)
        self._state, self._detail = state, self._detail if detail is None else detail
        self._changed.set()

    def end(self, detail: str = "") -> None:
        """Says "stopped", and nothing after it."""
        self._is_over = True
        self._changed.set()
        self._thread.join()
        self._state, self._detail = "stopped", detail
        attempt_write("last beat", self.write)

    def _beat(self) -> None:
        while True:
            self._changed.clear()
            if self._is_over:
                return
            attempt_write("beat", self.write)
            self._changed.wait(BEAT_SECONDS)

    def write(self) -> None:
        """Writes the row now."""
        workers.worker_beat(
            self.db, worker_id=self.name, pid=os.getpid(), state=self._state, detail=self._detail
        )


class Worker:
    """Claims groups and paints them, one at a time, until it is told to end."""

    def __init__(
        self,
        db: Database,
        device: str,
        weights: Path,
        kinds: Mapping[str, Work] = KINDS,
        ending: threading.Event | None = None,
    ) -> None:
        self.db, self.weights, self.kinds = db, weights, kinds
        self.name = worker_id(db.home, device)
        self.host = host_of(db.home)
        self.ending = ending or threading.Event()
        self.beacon = Beacon(db, self.name)
        self.device = resolve(device)
        self.room = Room(db.home, self.device)
        self.residence = Residence(str(self.device), identity(self.device))
        self.has_no_room = False
        self.residence.take(self.ending.is_set, self._wait_for_device, has_room=self.room.is_there)
        self.turns = Turns(db.home, self.device, self.must_go)
        self.shelf = PolicyShelf(db, self.device)
        options = options_for(db, weights, str(self.device))
        stack = load_stack(EMBEDDED, weights, str(self.device), options)
        stack.cache = StoredScores(db)
        self.cards = RewardCards(db, options, self.must_go)
        self.painter = Painter(db, self.shelf, stack, self._say, self.must_go)
        for name, reason in stack.unavailable.items():
            _log.warning("reward %s: %s", name, reason)

    def must_go(self) -> bool:
        """Whether this process has to end, for good or to make room on the device."""
        return self.ending.is_set() or self.has_no_room or self.residence.is_wanted()

    def _wait_for_device(self) -> None:
        active = attempt_write("waiting", lambda: runs.active_runs(self.db, self.host)) or []
        who = f"run {active[0].number}" if active else "another program of this machine's studios"
        self.beacon.say("starting", f"{WAITS_FOR} {who}, which has the device")
        self.ending.wait(1.0)

    def _say(self, state: WorkerState) -> None:
        self.beacon.say(state)

    def warm_up(self) -> None:
        """Loads the newest base, so that the first group does not wait for it; the rewards' cards come first,
        since it may be one that cannot be loaded.
        """
        self.cards.publish()
        bases = [
            checkpoint for checkpoint in checkpoints.list_checkpoints(self.db) if checkpoint.path is None
        ]
        if bases:
            self.beacon.say("starting", f"loading {bases[-1].name}")
            with suppress(GaveUpError), self.turns.turn():
                self.shelf.get(bases[-1])
        self.beacon.say("idle", describe(self.device))

    def loop(self) -> None:
        """Works until it has to go; a device that is given up is not held any more."""
        while not self.must_go():
            try:
                group = groups.claim_group(self.db, self.name)
            except UNAVAILABLE as error:
                _log.warning("the queue cannot be read now: %s", error)
                group = None
            if group is not None:
                self.work(group)
            elif not self._did_a_job():
                self.ending.wait(IDLE_SECONDS)
                continue
            self.beacon.say("idle", describe(self.device))
        self.beacon.end("" if self.ending.is_set() else "made room for a run")

    def _did_a_job(self) -> bool:
        try:
            job = jobs.claim_job(self.db, self.name)
        except UNAVAILABLE as error:
            _log.warning("the jobs cannot be read now: %s", error)
            return False
        if job is not None:
            self.do(job)
        return job is not None

    def do(self, job: Job) -> None:
        """Does one job; whatever happens to it, the worker lives on."""
        bench = Bench(
            self.db,
            job,
            self.painter,
            self.device,
            self.weights,
            turn=self.turns.turn,
            between=self._paint_waiting,
            is_ending=self.must_go,
        )
        requeue = partial(jobs.requeue_job, self.db, job.id, died=False)
        self._outlive(
            f"job {job.kind} {job.id}",
            lambda: do(bench, self.kinds),
            requeue,
            partial(jobs.fail_job, self.db, job.id),
        )
        if job.kind == "fit_head":  # the card of `human` says whether there is a head
            self.cards.publish()

    def _paint_waiting(self) -> None:
        """Paints what people wait for while a long job is under way."""
        while not self.must_go() and (group := groups.claim_group(self.db, self.name)) is not None:
            self.work(group)

    def work(self, group: ImageGroup) -> None:
        """Paints one group; whatever happens to it, the worker lives on."""
        requeue = partial(groups.requeue_group, self.db, group.id, died=False)
        fail = partial(groups.fail_group, self.db, group.id)
        self._outlive(f"group {group.id}", lambda: self._paint(group), requeue, fail)

    def _paint(self, group: ImageGroup) -> None:
        if runs.active_runs(self.db, self.host):
            groups.set_phase(self.db, group.id, "waiting for the run's turn to end")
        with self.turns.turn():
            self.painter.paint(group)

    def _outlive(
        self,
        what: str,
        work: Callable[[], None],
        requeue: Callable[[], object],
        fail: Callable[[str], object],
    ) -> None:
        """Does some work; whatever it raises becomes a row, and the worker lives on.

        A guest that runs out of memory leaves instead, and an engine with more room does the work again.
        """
        try:
            with self._leaving_where_short(what):
                work()
        except CanceledError:
            _log.info("%s was canceled", what)
        except (InterruptedDrawingError, GaveUpError):
            insist("requeue", requeue)
        except REFUSALS as error:
            _log.info("%s: %s", what, error, exc_info=True)
            sentence = str(error)
            insist("failure", lambda: fail(sentence[:2000]))
        except Exception as error:  # noqa: BLE001  # the one net: a worker outlives whatever it does
            _log.exception("%s", what)
            sentence = f"The engine could not do this ({type(error).__name__}: {error})."
            insist("failure", lambda: fail(sentence[:2000]))
        self.room.note()

    @contextmanager
    def _leaving_where_short(self, what: str) -> Iterator[None]:
        """Raises InterruptedDrawingError where memory ran out in the block and this worker is a guest."""
        try:
            yield
        except (torch.OutOfMemoryError, ValueError) as error:
            is_short = isinstance(error, torch.OutOfMemoryError) or isinstance(
                error.__cause__, torch.OutOfMemoryError
            )
            if not is_short or not self.residence.is_guest:
                raise
            _log.warning("%s ran out of memory beside a run: it waits for more room", what)
            self.room.note_shortage()
            self.has_no_room = True
            raise InterruptedDrawingError from error


def end_with_dispatcher(ending: threading.Event, pipe: BinaryIO) -> None:
    """Ends the worker when the other end of `pipe` closes, by force if a step lasts too long."""

    def watch() -> None:
        while pipe.read(1024):
            pass
        ending.set()
        threading.Event().wait(EXIT_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="dispatcher watch", daemon=True).start()


def main(argv: list[str] | None = None) -> int:
    """Entry point of the worker's process."""
    parser = argparse.ArgumentParser(description="Draws and scores the groups that people ask for.")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda:0, ...")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder of the embedded rewards")
    parser.add_argument(UNTIL_STDIN_CLOSES, action="store_true", help="how a dispatcher starts it")
    given = parser.parse_args(argv)
    try:
        resolve(given.device)
    except LookupError as error:
        parser.error(str(error))
    log_to(logging.StreamHandler(), "%(asctime)s worker %(levelname)s %(message)s")
    faulthandler.register(signal.SIGUSR1)
    use_all_cores()
    lock = FileLock(layout.worker_lock(given.home, given.device))
    if not given.until_stdin_closes and not lock.acquire(blocking=False):
        parser.error(f"device {given.device} has a worker already: end the studio that started it")
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    signal.signal(signal.SIGINT, lambda *_: ending.set())
    if given.until_stdin_closes:
        end_with_dispatcher(ending, sys.stdin.buffer)
    code = _work(open_database(given.home), given.device, given.weights, ending)
    if code == MADE_ROOM and not given.until_stdin_closes:  # nobody else starts it again
        lock.release()
        os.execv(sys.executable, sys.orig_argv)
    return code


def _work(db: Database, device: str, weights: Path, ending: threading.Event) -> int:
    """A worker's life; returns the exit code."""
    try:
        worker = Worker(db, device, weights, ending=ending)
    except GaveUpError:
        return 0
    try:
        worker.warm_up()
    except (ValueError, LookupError, OSError) as error:
        _log.warning("nothing is warm: %s", error)
        worker.beacon.say("idle", f"{describe(worker.device)}; the base could not be loaded: {error}")
    worker.loop()
    worker.residence.end_at_exec()  # else a worker that starts itself again waits for itself
    db.close()
    return 0 if ending.is_set() else MADE_ROOM


if __name__ == "__main__":
    step_back(ATTENDED)
    sys.exit(main())

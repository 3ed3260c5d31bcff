"""One more host for runs and images, without a browser: its engine worker, and the runs it draws tickets for.

    python app.py worker            (with DATABASE_URL)

It ends on SIGINT or SIGTERM; its run goes on, and is adopted by the next start.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence

from flowgrpo.runs import process, tickets
from flowgrpo.runs.dispatcher import Dispatcher
from flowgrpo.runs.patience import attempt_write
from storage import runs
from storage.engine import Database
from storage.models import Run

POLL_SECONDS = 0.5
ANSWER_SECONDS = 600.0
"""How long a claim may take before its ticket is given up: the database may be away."""


class Claims:
    """Hands what a ticket asks for to the dispatcher's thread, which alone starts shims."""

    def __init__(self) -> None:
        self._asked: queue.Queue[queue.Queue[Run | None]] = queue.Queue()

    def next(self) -> Run | None:
        """For who holds a ticket: the run that was claimed and started here, None where none waits."""
        answer: queue.Queue[Run | None] = queue.Queue()
        self._asked.put(answer)
        return answer.get(timeout=ANSWER_SECONDS)

    def serve(self, claim: Callable[[], Run | None]) -> None:
        """For the dispatcher, each round."""
        if self._asked.empty():
            return
        run = claim()
        self._asked.get().put(run)


def see_through(db: Database, run: Run, is_unwanted: Callable[[], bool], is_over: Callable[[], bool]) -> None:
    """Returns when this attempt of a run has ended, or this host does; asks it to stop when unwanted."""
    while not is_over():
        now = attempt_write("run", lambda: runs.get_run(db, run.id))
        if now is not None and (now.attempt != run.attempt or now.state not in runs.ACTIVE):
            return
        if is_unwanted() and now is not None and now.stop_requested_at is None:
            attempt_write("stop", lambda: runs.request_stop(db, run.id))
        time.sleep(POLL_SECONDS)


def work(
    db: Database,
    devices: Sequence[str],
    *,
    trainer: Sequence[str] | None = None,
    wait: bool = True,
) -> None:
    """Serves until a signal ends it, or without `wait` until no ticket is left."""
    tickets.prepare(db)
    claims, host = Claims(), process.host_of(db.home)
    dispatcher = Dispatcher(db, devices=devices, trainer=trainer, claims=claims.serve).start()

    def draw(is_unwanted: Callable[[], bool], is_over: Callable[[], bool]) -> None:
        while not is_over() and attempt_write("runs", lambda: runs.active_runs(db, host)) != []:
            time.sleep(POLL_SECONDS)  # one that was adopted after a restart
        run = None if is_over() else claims.next()
        if run is not None:
            see_through(db, run, is_unwanted, is_over)

    try:
        tickets.serve(draw, wait=wait)
    finally:
        dispatcher.stop()

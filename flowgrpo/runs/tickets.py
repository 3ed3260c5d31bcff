"""Runs for hosts without a browser, by Procrastinate: tickets in the PostgreSQL database that has the rows.

A ticket says no more than that some run waits. Whoever draws one claims the next run as every dispatcher
does, so that a ticket too many, or one that was lost, changes nothing: rows alone say what is true.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import procrastinate
from procrastinate import JobContext, jobs
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from procrastinate.job_context import AbortReason

from flowgrpo.runs.dispatcher import Dispatcher
from storage import neighbours, postgres
from storage.engine import Database
from storage.errors import NotSavedError
from storage.models import Run

VARIABLE = "FLOWGRPO_EXECUTOR"
"""Set to "workers", the web starts no run itself: hosts that run `app.py worker` do."""
QUEUE = "runs"
TASK = "flowgrpo.next_run"
MAX_PRIORITY = 1_000
AGAIN_SECONDS = 30.0
SILENT_SECONDS = 60.0
"""Without a sign of life, Procrastinate's worker is gone; it gives one every ten seconds."""
Draw = Callable[[Callable[[], bool], Callable[[], bool]], None]
"""Does the next run to its end; told when somebody wants it to stop, and when this host ends."""


def are_asked_for() -> bool:
    """Whether the environment says that other hosts start the runs."""
    return os.environ.get(VARIABLE) == "workers" and postgres.is_asked_for()


def prepare(db: Database) -> None:
    """Makes Procrastinate's own tables where they are not there yet; safe for many processes at once."""
    with db.write() as session:
        connection = session.connection()
        if not connection.dialect.has_table(connection, "procrastinate_jobs"):
            schema = procrastinate.App(
                connector=procrastinate.SyncPsycopgConnector()
            ).schema_manager.get_schema()
            connection.connection.cursor().execute(schema)


class TicketOffice:
    """Offers a ticket for each run that waits, and again where none was drawn for it in half a minute."""

    def __init__(self, db: Database) -> None:
        prepare(db)
        self.db = db
        address = postgres.libpq_address()
        connector = procrastinate.SyncPsycopgConnector(conninfo=address, min_size=1, max_size=1)
        self._app = procrastinate.App(connector=connector)
        self._offered: dict[tuple[str, int], float] = {}

    def offer(self, *_: object) -> None:
        """What a dispatcher does each round in place of a claim.

        Raises:
            NotSavedError: the database cannot be reached now.
        """
        now = time.monotonic()
        waiting = {(run.id, run.version): run for run in neighbours.waiting_runs(self.db)}
        offered = {
            key: at for key, at in self._offered.items() if key in waiting and now - at < AGAIN_SECONDS
        }
        new = {key: run for key, run in waiting.items() if key not in offered}
        if new:
            self._tear_up()
            try:
                with self._app.open():
                    for run in new.values():
                        self._defer(run)
            except ConnectorException as error:
                raise NotSavedError(
                    "Not saved: the queue of the hosts cannot be reached: try again."
                ) from error
        self._offered = offered | dict.fromkeys(new, now)

    def _tear_up(self) -> None:
        """Removes the tickets of hosts that vanished with them."""
        neighbours.tear_up_tickets(self.db, TASK, timedelta(seconds=SILENT_SECONDS))

    def _defer(self, run: Run) -> None:
        priority = max(-MAX_PRIORITY, min(run.priority, MAX_PRIORITY))  # what the queue's column holds
        # no lock of the run: the ticket of a host that vanished would hold it, and rows decide who has a run
        task = self._app.configure_task(TASK, queue=QUEUE, queueing_lock=run.id, priority=priority)
        with suppress(AlreadyEnqueued):
            task.defer(run=run.number)


def dispatcher_of_web(db: Database) -> Dispatcher:
    """The web's: it starts runs itself, unless the environment says that other hosts do."""
    return Dispatcher(db, claims=TicketOffice(db).offer) if are_asked_for() else Dispatcher(db)


def serve(draw: Draw, *, wait: bool = True) -> None:
    """Draws tickets until SIGINT or SIGTERM, or until there are none; one run at a time.

    Args:
        draw: called in a thread of its own.
        wait: for further tickets.
    """
    app = procrastinate.App(
        connector=procrastinate.PsycopgConnector(conninfo=postgres.libpq_address(), max_size=4)
    )

    @app.task(name=TASK, pass_context=True)
    def next_run(context: JobContext, run: int) -> None:
        draw(
            lambda: context.abort_reason() == AbortReason.USER_REQUEST,
            lambda: context.abort_reason() == AbortReason.SHUTDOWN,
        )

    app.run_worker(
        queues=[QUEUE],
        concurrency=1,
        wait=wait,
        delete_jobs=jobs.DeleteJobCondition.ALWAYS.value,
        shutdown_graceful_timeout=0.0,
    )

"""The studio without a browser: a dispatcher in this process, work as rows, and generators that follow it.

with dispatching(db):
    group = request_group(db, prompt=..., checkpoint_id=..., config=..., seeds=[1, 2, 3, 4])
    run = create_run(db, name=..., owner_id="local", parent_checkpoint_id=..., config=config.model_dump())
    for status in follow_groups(db, [group.id]):
        ...
    for status in follow_run(db, run.id):
        ...
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flowgrpo.runs.dispatcher import Dispatcher
from storage import groups, runs
from storage.engine import Database
from storage.models import RunState

POLL_SECONDS = 0.25


@dataclass(frozen=True)
class RunStatus:
    """Where a run stands; `reason` says why it ended when it did not complete."""

    state: RunState
    update: int
    num_updates: int
    phase: str
    seconds_per_update: float | None
    reason: str | None


@dataclass(frozen=True)
class GroupsStatus:
    """Where some groups stand. `phase` is what the worker does to the first that it has in work."""

    done: int
    failed: int
    total: int
    phase: str
    reasons: tuple[str, ...]
    """Why groups failed, one sentence each."""


@contextmanager
def dispatching(db: Database, **options: Any) -> Iterator[Dispatcher]:
    """A dispatcher for the block, with its engine worker; options as of `Dispatcher`. Runs outlive it."""
    dispatcher = Dispatcher(db, **options).start()
    try:
        yield dispatcher
    finally:
        dispatcher.stop()


def follow_run(db: Database, run_id: str) -> Iterator[RunStatus]:
    """Yields a run's status whenever it changes, until it ends or pauses; the last one says how.

    Raises:
        LookupError: there is no such run.
    """
    last = None
    while True:
        status = run_status(db, run_id)
        if status != last:
            yield status
        elif status.state in runs.AT_REST:
            return  # seen twice: the dispatcher queues many a lost run again at once
        last = status
        time.sleep(POLL_SECONDS)


def run_status(db: Database, run_id: str) -> RunStatus:
    """A run's status now."""
    run, beat = runs.get_run(db, run_id), runs.beat_of(db, run_id)
    total = int(run.config.get("num_updates", 0))
    if beat is None:
        return RunStatus(run.state, 0, total, "waiting", None, run.reason)
    return RunStatus(
        run.state, beat.update, beat.num_updates, beat.phase, beat.seconds_per_update, run.reason
    )


def follow_groups(db: Database, group_ids: Sequence[str]) -> Iterator[GroupsStatus]:
    """Yields the groups' status whenever it changes, until all have ended.

    Raises:
        LookupError: there is no such group.
    """
    last = None
    while last is None or last.done + last.failed < last.total:
        status = groups_status(db, group_ids)
        if status != last:
            yield status
        else:
            time.sleep(POLL_SECONDS)
        last = status


def groups_status(db: Database, group_ids: Sequence[str]) -> GroupsStatus:
    """The groups' status now; canceled ones count as failed."""
    rows = [groups.get_group(db, group_id).group for group_id in group_ids]
    states = Counter(row.state for row in rows)
    phases = [row.phase for row in rows if row.state == "running" and row.phase]
    return GroupsStatus(
        done=states["done"],
        failed=states["failed"] + states["canceled"],
        total=len(rows),
        phase=phases[0] if phases else "",
        reasons=tuple(row.reason for row in rows if row.state == "failed" and row.reason),
    )

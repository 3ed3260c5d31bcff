"""What people ask of a run while it goes on: pause, save now, sample now.

A wish is the time at which it was asked for, in a column of the run. The trainer looks at all of them in one
read, carries them out after the update under way, and clears what it has done, with an event that says so.
A person who resumes a run asks for nothing that was asked for before.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal, get_args

from sqlalchemy import select

from storage.engine import Database
from storage.errors import StaleAttemptError
from storage.lookup import required
from storage.models import Run, RunAttempt, RunEvent, User
from storage.types import utc_now

Wish = Literal["pause", "save", "sample"]
WISHES: Final[tuple[Wish, ...]] = get_args(Wish)
PAUSED_EXIT: Final = 80
"""Exit code of a trainer that paused because somebody asked it to (`flowgrpo.runs.exits`)."""
_COLUMNS = {
    "pause": Run.pause_requested_at,
    "save": Run.save_requested_at,
    "sample": Run.sample_requested_at,
}
_WHY_NOT: Final[Mapping[str, str]] = {
    "queued": "has not started yet: cancel it if it should not",
    "stopping": "is stopping already, and saves what it has",
    "paused": "is paused already: resume it first",
    "stopped": "has stopped: resume it first",
    "failed": "has failed: see why, then resume it first",
    "lost": "was interrupted: resume it first",
    "completed": "is complete: extend it, or start another run from its checkpoint",
    "canceled": "was canceled before it started: start another one",
}
"""State to the clause with which a wish is refused there."""


def request_pause(db: Database, run_id: str, by: str = "local") -> Run:
    """Asks a run to pause after the update under way: it saves, and its device is free until it is resumed.

    Asking again changes nothing.

    Raises:
        ValueError: it does not run, with what to do instead. LookupError: no such run or user.
    """
    return _ask(db, run_id, "pause", by)


def request_save(db: Database, run_id: str, by: str = "local") -> Run:
    """Asks a run for a checkpoint after the update under way; it goes on. Raises as `request_pause`."""
    return _ask(db, run_id, "save", by)


def request_sample(db: Database, run_id: str, by: str = "local") -> Run:
    """Asks a run for a sample grid after the update under way; it goes on.

    Raises as `request_pause`, and ValueError where the run draws no samples at all.
    """
    return _ask(db, run_id, "sample", by)


def _ask(db: Database, run_id: str, wish: Wish, by: str) -> Run:
    with db.write() as session:
        run = required(session, Run, run_id, "run")
        who = required(session, User, by, "user")
        _refuse_if_idle(run)
        if wish == "sample" and run.config.get("samples") == 0:
            raise ValueError(f"run {run.number} draws no samples: its settings ask for 0 images a grid")
        if getattr(run, _column(wish)) is None:
            setattr(run, _column(wish), utc_now())
            event = RunEvent(run_id=run.id, attempt=run.attempt, kind=f"{wish}_requested")
            event.detail, event.payload = f"asked by {who.name}", {"user": who.id}
            session.add(event)
        return run


def _refuse_if_idle(run: Run) -> None:
    """Raises ValueError for a run that will not look at wishes any more, or not yet."""
    state = "stopping" if run.stop_requested_at and run.state in ("starting", "running") else run.state
    if state in _WHY_NOT:
        raise ValueError(f"run {run.number} {_WHY_NOT[state]}")


def wishes_of(db: Database, run_id: str) -> dict[Wish, datetime]:
    """What is asked of a run and not done yet, with the time of asking; in one read."""
    with db.read() as session:
        row = session.execute(select(*_COLUMNS.values()).where(Run.id == run_id)).one_or_none()
    return {wish: at for wish, at in zip(WISHES, row or (), strict=False) if at is not None}


def fulfil(db: Database, run_id: str, attempt: int, wish: Wish, asked_at: datetime, sentence: str) -> None:
    """Clears a wish that was carried out, and says in the history what was done.

    One that was asked for again since stands.

    Raises:
        StaleAttemptError: the run is in a later attempt.
    """
    with db.write() as session:
        run = required(session, Run, run_id, "run")
        if run.attempt != attempt:
            raise StaleAttemptError(
                f"run {run.number} is in attempt {run.attempt}, not {attempt}: this process must end"
            )
        if getattr(run, _column(wish)) == asked_at:
            setattr(run, _column(wish), None)
        session.add(RunEvent(run_id=run.id, attempt=attempt, kind=f"{wish}_done", detail=sentence))


def is_paused_on_request(db: Database, run: Run) -> bool:
    """Whether a paused run rests because a person asked for it, so that it waits for no answer."""
    if run.state != "paused":
        return False
    with db.read() as session:
        attempt = session.get(RunAttempt, (run.id, run.attempt))
    return attempt is not None and attempt.exit_code == PAUSED_EXIT


def _column(wish: Wish) -> str:
    return f"{wish}_requested_at"

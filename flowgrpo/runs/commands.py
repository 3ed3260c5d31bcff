"""What the commands of `app.py` do that needs no browser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flowgrpo.config_file import ConfigFile
from flowgrpo.runs import repeating
from flowgrpo.runs.local import dispatching, follow_run
from storage import runs
from storage.engine import Database
from storage.models import Run

Say = Callable[[str], None]


def run_to_its_end(db: Database, config: Path, checkpoint: str | None, name: str | None, say: Say) -> str:
    """Queues a run, starts it, and says each step of its progress; returns its last state.

    Ctrl+C asks it to stop at its next safe point, and waits for that.

    Args:
        checkpoint: what it starts from, where that is not what the file says, or the starter.
        name: of the run; by default as in the file.

    Raises LookupError, ValueError or OSError with a sentence.
    """
    file = repeating.read_file(config)
    made = queue(db, file, checkpoint, name, say)
    with repeating.as_many_threads(file.made_with), dispatching(db, devices=()):
        try:
            return _watch(db, made.id, file.made_with, say)
        except KeyboardInterrupt:
            runs.request_stop(db, made.id)
            return _watch(db, made.id, {}, say)


def queue(db: Database, file: ConfigFile, checkpoint: str | None, name: str | None, say: Say) -> Run:
    """Queues the run of a file; raises as `run_to_its_end`."""
    parent = repeating.start_of(db, file, checkpoint)
    settings, told = repeating.runnable(db, file.config)
    for sentence in told:
        say(sentence)
    return runs.create_run(
        db,
        name=name or _name(file),
        owner_id="local",
        parent_checkpoint_id=parent.id,
        config=settings.model_dump(mode="json"),
    )


def _name(file: ConfigFile) -> str:
    run = file.made_with.get("run")
    told = str(run.get("name") or "") if isinstance(run, dict) else ""
    return told[:120].strip() or "from the command line"


def _watch(db: Database, run_id: str, made_with: Mapping[str, Any], say: Say) -> str:
    number, compared = runs.get_run(db, run_id).number, ""
    for now in follow_run(db, run_id):
        say(f"run {number}: {now.state}, update {now.update} of {now.num_updates}, {now.phase}")
        if not compared:  # the trainer writes the file, so it is there a while after the start
            compared = repeating.compared(db, run_id, made_with)
            if compared:
                say(compared)
    if now.reason:
        say(now.reason)
    return now.state

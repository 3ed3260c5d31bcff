"""What a click on a run does: ask it to pause, save or sample, stop it, go on, or make another one of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from storage import branches, checkpoints, run_queue, run_wishes, runs
from storage.engine import Database
from storage.errors import NotSavedError
from storage.models import Run
from ui import asking
from ui.forms import Refused, whole
from ui.run_view import Looking
from ui.services import LOCAL_USER, Services, shown

_WISHES: Mapping[str, Callable[[Database, str, str], Run]] = {
    "pause": run_wishes.request_pause,
    "save": run_wishes.request_save,
    "sample": run_wishes.request_sample,
    "sooner": lambda db, run_id, who: run_queue.move_in_queue(db, run_id, "sooner", who),
    "later": lambda db, run_id, who: run_queue.move_in_queue(db, run_id, "later", who),
}
"""What a person asks of a run, in their name."""


def acted(
    services: Services, state: str | None, act: str, target: str, who: str = LOCAL_USER
) -> tuple[str, str | None]:
    """One click on a run: (a sentence when it could not be done, the run to show)."""
    try:
        return "", _done(services.db, state, act, target, who)
    except (LookupError, ValueError, NotSavedError) as error:
        return shown(error), state


def looked(
    services: Services, state: Looking, act: str, target: str, who: str = LOCAL_USER
) -> tuple[str, Looking]:
    """The same for what a browser looks at: other runs beside, and the log, are its own matter."""
    if act in ("with", "without"):
        return "", state.toggled(target)
    if act == "log":
        return "", replace(state, has_log=not state.has_log)
    problem, run_id = acted(services, state.run_id, act, target, who)
    return problem, state.with_run(run_id)


def _done(db: Database, state: str | None, act: str, target: str, who: str) -> str | None:
    """Does it; the run to look at from now on."""
    if act == "open":
        return target
    if act in _WISHES:
        _WISHES[act](db, target, who)
    elif act == "stop":
        runs.request_stop(db, target)
    elif act == "resume":
        runs.resume_run(db, target)
    elif act == "back":
        asking.go_back(db, target)
    elif act == "continue":
        run_id, _, more = target.partition("/")
        branches.continue_run(db, run_id, whole(more, "The number of further updates", 1, 100_000), who)
    elif act == "branch":
        return _branched(db, target, {}, who).id
    elif act == "reproduce":
        return branches.reproduce(db, target, owner_id=who).run.id
    elif act == "lighter":
        return _lighter(db, target, who).id
    else:
        raise Refused("This page has no such button any more: reload it.")
    return state


def _branched(db: Database, checkpoint_id: str, changes: Mapping[str, Any], who: str) -> Run:
    made = checkpoints.get_checkpoint(db, checkpoint_id)
    _, run = branches.branched_config(db, checkpoint_id, changes)
    name = f"{run.name}, from update {made.update}"
    return branches.branch(db, checkpoint_id, changes, name=name, owner_id=who)


def _lighter(db: Database, run_id: str, who: str) -> Run:
    """The same run with less in memory at once, from its last checkpoint, or from where it began."""
    run = runs.get_run(db, run_id)
    update = run.config.get("update") or {}
    size = max(1, int(update.get("micro_batch_size", 2)) // 2)
    changes = {"update": {"micro_batch_size": size, "gradient_checkpointing": True}}
    usable = [one for one in checkpoints.checkpoints_of_run(db, run_id) if one.state == "committed"]
    if usable:
        return _branched(db, usable[-1].id, changes, who)
    return runs.create_run(
        db,
        name=f"{run.name}, less memory",
        owner_id=who,
        parent_checkpoint_id=run.parent_checkpoint_id,
        config=run.config | {"update": update | changes["update"]},
        prompt_set_id=run.prompt_set_id,
    )

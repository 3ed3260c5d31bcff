"""More of what was tuned: a completed run extended, a new run from a checkpoint, a run made once more.

Nothing that was made is ever overwritten. A run that is extended is itself queued again with a later end: it
goes on from its last checkpoint, optimiser and counters included, and its history says so. A branch is a new
run, which starts from weights alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import select

from storage import runs
from storage.engine import Database
from storage.lookup import config_hash, required
from storage.models import Checkpoint, Run, RunAttempt, RunEvent, User

MAX_UPDATES = 100_000
"""Of one run; as in `flowgrpo.config`."""


@dataclass(frozen=True)
class Reproduction:
    """A run made once more, and what cannot be the same in it, a sentence each; empty where all can."""

    run: Run
    differences: Sequence[str]


def continue_run(db: Database, run_id: str, more_updates: int, by: str = "local") -> Run:
    """Extends a completed run: queued again, it goes on where it ended, exactly as if it had not.

    Raises:
        ValueError: it is not complete, or the number is out of range. LookupError: no such run or user, or
            its last checkpoint cannot be used any more.
    """
    with db.write() as session:
        run, who = required(session, Run, run_id, "run"), required(session, User, by, "user")
        if run.state != "completed":
            raise ValueError(f"run {run.number} is {run.state}: only a completed run is extended")
        before = int(run.config.get("num_updates", 0))
        if not 1 <= more_updates <= MAX_UPDATES - before:
            raise ValueError(f"a run is extended by 1 to {MAX_UPDATES - before} updates, got {more_updates}")
        last = select(Checkpoint).where(Checkpoint.run_id == run.id, Checkpoint.state == "committed")
        if session.scalar(last.where(Checkpoint.update >= before)) is None:
            raise LookupError(f"the last checkpoint of run {run.number} is gone: start a branch from another")
        payload = {"from": before, "to": before + more_updates, "user": who.id, "config": run.config_hash}
        run.config = run.config | {"num_updates": before + more_updates}
        run.config_hash = config_hash(run.config)
        event = RunEvent(run_id=run.id, attempt=run.attempt, kind="extended", payload=payload)
        event.detail = (
            f"extended from {before} to {before + more_updates} updates by {who.name}{_decays(run)}"
        )
        session.add(event)
        session.flush()
        runs.move_in(session, run, "queued", ("completed",))
        return run


def _decays(run: Run) -> str:
    if (run.config.get("update") or {}).get("decay") != "linear":
        return ""
    return "; its learning rate fell to 0 there and now falls to 0 at the new end, so it rises once"


def branch(
    db: Database, checkpoint_id: str, changes: Mapping[str, Any], *, name: str, owner_id: str = "local"
) -> Run:
    """A new run from the weights of a checkpoint: the settings of the run that made it, with changes.

    Args:
        changes: what replaces those settings, sections merged key by key. The caller checks the whole with
            `flowgrpo.config.RunConfig` first (`branched_config`).

    Raises:
        LookupError: no such checkpoint, or no run made it. ValueError: other LoRA settings than its own.
    """
    config, run = branched_config(db, checkpoint_id, changes)
    same = run.prompt_set_id if config.get("prompts") == run.config.get("prompts") else None
    return runs.create_run(
        db,
        name=name,
        owner_id=owner_id,
        parent_checkpoint_id=checkpoint_id,
        config=config,
        prompt_set_id=same,
    )


def branched_config(
    db: Database, checkpoint_id: str, changes: Mapping[str, Any]
) -> tuple[dict[str, Any], Run]:
    """The settings of the run that made a checkpoint with changes, and that run. Raises as `branch`."""
    with db.read() as session:
        checkpoint = required(session, Checkpoint, checkpoint_id, "checkpoint")
        if checkpoint.run_id is None:
            raise LookupError(f"no run made {checkpoint.name}: start a run from it instead of a branch")
        run = required(session, Run, checkpoint.run_id, "run")
    config = _merged(run.config, changes)
    if config.get("lora") != run.config.get("lora"):
        raise ValueError(
            f"a branch of {checkpoint.name} keeps its LoRA settings, since it starts from its weights: leave "
            "them out of the changes, or start from the base"
        )
    return config, run


def _merged(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings are merged where both sides have them; rewards, which are a choice, are replaced."""
    found = dict(config)
    for key, value in changes.items():
        old = found.get(key)
        if isinstance(old, dict) and isinstance(value, Mapping) and key != "reward_weights":
            found[key] = _merged(old, value)
        else:
            found[key] = value
    return found


def reproduce(db: Database, run_id: str, *, owner_id: str = "local", host: str | None = None) -> Reproduction:
    """A run with the same parent, settings, prompts, seed and frozen votes, queued.

    Args:
        host: where it will run, to say so where that is another machine.

    Raises:
        LookupError: no such run, or its parent cannot be used any more.
    """
    old = runs.get_run(db, run_id)
    differences = _differences(db, old, host)
    made = runs.create_run(
        db, name=f"{old.name} (again)", owner_id=owner_id, parent_checkpoint_id=old.parent_checkpoint_id,
        config=old.config, prompt_set_id=old.prompt_set_id,
    )  # fmt: skip
    with db.write() as session:
        event = RunEvent(run_id=made.id, attempt=0, kind="reproduces", payload={"run": old.id})
        event.detail = " ".join([f"Run {old.number} once more.", *differences])
        session.add(event)
    return Reproduction(made, differences)


_ALIKE_ONLY_IF: Final[Mapping[str, str]] = {
    "pause": "People decided on alarms of the first one, and are asked again.",
    "recovery": "The first one went back to earlier weights by itself; this one may not.",
    "extended": "The first one was extended, so where its learning rate falls it fell otherwise.",
}
"""Kind of event to what it means for a run that is made once more."""


def _differences(db: Database, run: Run, host: str | None) -> list[str]:
    config = run.config
    with db.read() as session:
        hosts = set(session.scalars(select(RunAttempt.host).where(RunAttempt.run_id == run.id)))
    weighted = [name for name, weight in (config.get("reward_weights") or {}).items() if weight]
    found = []
    if any(name.partition(":")[0] == "human" for name in weighted):
        found.append("It learns from people's votes as they stand while it runs: there may be others by now.")
    if config.get("people"):
        found.append("People rate its groups anew, and may say something else.")
    if (config.get("algorithm") or {}).get("name") == "sft" or config.get("references"):
        found.append("The folder that it reads may have changed since.")
    history = {event.kind for event in runs.events(db, run.id)}
    found += [sentence for kind, sentence in _ALIKE_ONLY_IF.items() if kind in history]
    if host is not None and hosts - {host}:
        found.append("The first one ran on another machine, where sums are rounded otherwise.")
    return found

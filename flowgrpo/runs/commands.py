"""What the commands of `app.py` do that needs no browser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from flowgrpo.config import RunConfig
from flowgrpo.runs.local import dispatching, follow_run
from storage import checkpoints, runs
from storage.engine import Database
from storage.models import Checkpoint

Say = Callable[[str], None]


def read_config(path: Path) -> RunConfig:
    """A run's settings from a JSON file; ValueError with a sentence where they are none."""
    try:
        return RunConfig.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    except ValidationError as error:
        told = "; ".join(_sentence(dict(one)) for one in error.errors()[:3])
        raise ValueError(f"{path} is not a run: {told}") from error


def _sentence(error: Mapping[str, Any]) -> str:
    """Where a setting is wrong, what was expected, and what stands there."""
    *section, name = [str(part) for part in error["loc"]] or ["the run"]
    where = ".".join([*section, name])
    if error["type"] == "extra_forbidden":
        near = get_close_matches(name, _names(RunConfig), n=1)
        return f"there is no setting {where}" + (f", did you mean {near[0]}?" if near else "")
    given = f", got {error['input']!r}" if isinstance(error["input"], int | float | str) else ""
    return f"{where}: {error['msg'].removeprefix('Value error, ')}{given}"


def _names(model: type[BaseModel]) -> set[str]:
    """Of all settings, those of sections included."""
    names = set(model.model_fields)
    for field in model.model_fields.values():
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                names |= _names(part)
    return names


def named_checkpoint(db: Database, name: str) -> Checkpoint:
    """The newest checkpoint of a name; LookupError with those that there are."""
    known = checkpoints.list_checkpoints(db)
    found = next((one for one in reversed(known) if name in (one.name, one.id)), None)
    if found is None:
        names = ", ".join(one.name for one in known)
        raise LookupError(f"There is no checkpoint named {name}; there are {names or 'none'}.")
    return found


def run_to_its_end(db: Database, config: Path, checkpoint: str, name: str, say: Say) -> str:
    """Queues a run, starts it, and says each step of its progress; returns its last state.

    Ctrl+C asks it to stop at its next safe point, and waits for that.

    Raises LookupError, ValueError or OSError with a sentence.
    """
    checked, parent = read_config(config), named_checkpoint(db, checkpoint)
    document = checked.model_dump(mode="json")
    made = runs.create_run(db, name=name, owner_id="local", parent_checkpoint_id=parent.id, config=document)
    with dispatching(db, devices=()):
        try:
            return _watch(db, made.id, say)
        except KeyboardInterrupt:
            runs.request_stop(db, made.id)
            return _watch(db, made.id, say)


def _watch(db: Database, run_id: str, say: Say) -> str:
    number = runs.get_run(db, run_id).number
    for now in follow_run(db, run_id):
        say(f"run {number}: {now.state}, update {now.update} of {now.num_updates}, {now.phase}")
    if now.reason:
        say(now.reason)
    return now.state

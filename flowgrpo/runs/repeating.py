"""A run made once more from its file, perhaps in another data folder: where it starts, what is lacking here,
and whether everything is as it was.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from flowgrpo.config import RunConfig
from flowgrpo.config_file import ConfigFile, parse
from flowgrpo.runs import layout
from flowgrpo.runs.made_with import MACHINE, adapter_hash, base_facts
from flowgrpo.runs.taste import human_reward
from storage import checkpoints, snapshots
from storage.engine import Database
from storage.models import BaseModel, Checkpoint

STARTER: Final = "starter"
THREADS: Final = "OMP_NUM_THREADS"
_MOST_THREADS: Final = 1024


def read_file(path: Path) -> ConfigFile:
    """A run's settings from a YAML or JSON file; ValueError with a sentence where they are none."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    return parse(text, str(path))


def start_of(db: Database, file: ConfigFile, wanted: str | None = None) -> Checkpoint:
    """The checkpoint of this data folder that a run starts from.

    Args:
        wanted: a name or id, which goes before what the file says; the starter where neither names one.

    Raises:
        LookupError: it is not here; the sentence says what to do.
    """
    start, base = _part(file.made_with, "start"), _part(file.made_with, "base")
    if wanted is not None or not base:
        return checkpoints.named_checkpoint(db, wanted or STARTER)
    return _same_weights(db, start) if start else _same_base(db, base)


def _same_weights(db: Database, start: Mapping[str, Any]) -> Checkpoint:
    wanted = str(start.get("adapter") or "none")
    for one in checkpoints.list_checkpoints(db):
        if one.path is not None and adapter_hash(db, one) == wanted:
            return one
    raise LookupError(
        f"The run starts from {start.get('name')}, whose weights are not in this data folder: repeat the run "
        "that made it first, or import its file, or choose another start with --checkpoint."
    )


def _same_base(db: Database, base: Mapping[str, Any]) -> Checkpoint:
    """The one of the same name first: to look at another one's files takes longer."""
    bases = [one for one in checkpoints.list_checkpoints(db) if one.path is None]
    for one in sorted(bases, key=lambda one: one.name != base.get("name")):
        if _is_same(checkpoints.base_of(db, one), base):
            return one
    where = base.get("source") or "ITS FOLDER OR FILE"
    options = "".join(f" --{key} {value}" for key, value in _part(base, "options").items())
    raise LookupError(
        f"The run was made on the base {base.get('name')}, and no base here has the same files: add it with "
        f"python app.py base {where}{options}, or choose another one with --checkpoint."
    )


def _is_same(here: BaseModel, base: Mapping[str, Any]) -> bool:
    if "source" in base and here.source != base["source"]:
        return False
    try:
        found = base_facts(here)
    except OSError:  # its files are gone
        return False
    return all(found.get(name) == base.get(name) for name in ("source", "fingerprint", "options"))


def runnable(db: Database, config: RunConfig) -> tuple[RunConfig, list[str]]:
    """The settings as this data folder can use them, and sentences about what people have to add.

    Raises:
        LookupError: it learns from ratings that are not here.
    """
    told: list[str] = []
    if config.ratings is not None:
        _check_ratings(db, config.ratings.snapshot)
    if config.people is not None or human_reward(config) is not None:
        told.append(
            "This run listens to people: what they say now teaches it, so it ends as the first one did only "
            "where they say the same."
        )
    if config.weights_from is not None and not _has_fit(db, config.weights_from):
        config = config.model_copy(update={"weights_from": None})
        told.append("Its reward weights were fitted to votes that are not here; the weights are the same.")
    return config, told


def _check_ratings(db: Database, snapshot: str) -> None:
    try:
        snapshots.get_snapshot(db, snapshot)
    except LookupError as error:
        raise LookupError(
            f"This run learns from ratings, and these ({snapshot}) are not in this data folder: take the "
            "whole project along with python app.py archive and unarchive, and run it there."
        ) from error


def _has_fit(db: Database, fit: str) -> bool:
    try:
        snapshots.get_fit(db, fit)
    except LookupError:
        return False
    return True


@contextmanager
def as_many_threads(made_with: Mapping[str, Any]) -> Iterator[None]:
    """Processes that start inside compute with as many threads as the file says: sums of other parts differ
    in their last bits. A number that somebody set in the environment stands.
    """
    wanted = made_with.get("threads")
    is_set = THREADS in os.environ or not isinstance(wanted, int) or not 1 <= wanted <= _MOST_THREADS
    if not is_set:
        os.environ[THREADS] = str(wanted)
    try:
        yield
    finally:
        if not is_set:
            del os.environ[THREADS]


def compared(db: Database, run_id: str, then: Mapping[str, Any]) -> str:
    """Whether a run that has begun is made as the file says, in a sentence; empty where there is nothing to
    compare yet.
    """
    path = layout.config_file(db.home, run_id)
    if not then or not path.is_file():
        return ""
    now = read_file(path).made_with
    found = list(_differences(then, now))
    decided = then.get("decided")
    if isinstance(decided, list):
        found += [f"people decided ({one})" for one in decided]
    if then.get("earlier"):
        found.append("the first one was resumed with other programs or processors")
    if found:
        return f"Not all is as it was: {'; '.join(found)}. The result need not be the same to the last bit."
    if now.get("device") != "CPU":
        return "All is as it was; on a GPU the last bits may differ all the same."
    return "All is as it was: the result is the same to the last bit."


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in MACHINE:
        if then.get(name) != now.get(name):
            yield f"{name} {then.get(name)} then, {now.get(name)} now"
    before, after = _part(then, "rewards"), _part(now, "rewards")
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield f"reward {name} {before.get(name, 'absent')} then, {after.get(name, 'absent')} now"
    if _start(then) != _start(now):
        yield "another start"


def _start(told: Mapping[str, Any]) -> tuple[Any, ...]:
    base, start = _part(told, "base"), _part(told, "start")
    return base.get("source"), base.get("fingerprint"), start.get("adapter")


def _part(told: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = told.get(name)
    return part if isinstance(part, dict) else {}

"""What the runs behind a checkpoint learned from, so that a test can say which of its prompts are not new.

A checkpoint was made by a run, which started from another checkpoint, and so on down to the base. Every run
of that line taught it: by its own prompts, by groups that people had rated, and by rewards that were fitted
to ratings. Prompts are the same here as in `storage.lookup.prompt_hash`: case, width and spacing do not tell
them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.engine import Database
from storage.lookup import prompt_hash, required
from storage.models import Checkpoint, ImageGroup, RatingEvent, Run
from storage.models_judging import VoteSnapshot

_PER_QUERY = 500


@dataclass(frozen=True)
class Lesson:
    """What one run of a checkpoint's line learned from. Prompts are hashes.

    Attributes:
        trained: The run's training prompts, and those of the rated groups that it learned from.
        rated: Prompts of the groups whose ratings its rewards were fitted to.
        unknown: What it learned from that no row knows, as a clause; empty where all is known.
    """

    run_number: int
    trained: frozenset[str]
    rated: frozenset[str]
    unknown: str


def lessons_of(db: Database, checkpoint_id: str) -> list[Lesson]:
    """What each run behind a checkpoint learned from, the last one first; none for a base.

    Raises:
        LookupError: no such checkpoint.
    """
    found: list[Lesson] = []
    with db.read() as session:
        one = required(session, Checkpoint, checkpoint_id, "checkpoint")
        while one.run_id is not None:
            run = session.get(Run, one.run_id)
            if run is None:
                found.append(Lesson(0, frozenset(), frozenset(), "a run behind it is gone"))
                break
            found.append(_lesson(session, one, run))
            one = required(session, Checkpoint, run.parent_checkpoint_id, "checkpoint")
        if one.origin is not None:
            unknown = f"{one.name} was imported, and what taught it is not known"
            found.append(Lesson(0, frozenset(), frozenset(), unknown))
    return found


def trained_on(
    db: Database, checkpoint_ids: Iterable[str], prompts: Sequence[str], *, called: str = ""
) -> dict[str, str]:
    """Checkpoint id to a sentence about those of the prompts that it was trained on, however it came to that;
    checkpoints to which all of them are new are absent.

    Args:
        called: What the sentences call every checkpoint, where they must not tell which one they are about.

    Raises:
        LookupError: no such checkpoint.
    """
    asked = [prompt_hash(prompt) for prompt in prompts]
    found: dict[str, str] = {}
    for one in dict.fromkeys(checkpoint_ids):
        lessons = lessons_of(db, one)
        with db.read() as session:
            row = required(session, Checkpoint, one, "checkpoint")
        through = "" if called else _through(lessons, asked)
        sentence = _sentence(called or row.name, through, lessons, asked)
        if sentence:
            found[one] = sentence
    return found


def taught_by(db: Database, snapshot_id: str, prompts: Sequence[str]) -> int:
    """How many of the prompts have groups whose ratings are in a snapshot of votes."""
    with db.read() as session:
        rated = _rated(session, snapshot_id)
    return sum(prompt_hash(prompt) in (rated or ()) for prompt in prompts)


def _lesson(session: Session, made: Checkpoint, run: Run) -> Lesson:
    """Of the run up to this checkpoint of it."""
    config: Mapping[str, Any] = run.config
    unknown: list[str] = []
    trained = {prompt_hash(prompt) for prompt in config.get("prompts", ())}
    if (config.get("algorithm") or {}).get("name") == "sft":  # its prompts only show how far it is
        trained = set()
        unknown.append("it learned from a folder whose captions are not kept")
    rated: set[str] = set()
    learned = (config.get("ratings") or {}).get("snapshot")
    for snapshot in dict.fromkeys((*([learned] if learned else []), *_snapshots(made.votes or {}))):
        hashes = _rated(session, snapshot)
        if hashes is None:
            unknown.append("ratings that it learned from are gone")
        else:
            (trained if snapshot == learned else rated).update(hashes)
    return Lesson(run.number, frozenset(trained), frozenset(rated), " and ".join(unknown))


def _snapshots(votes: Mapping[str, Any]) -> list[str]:
    """Every snapshot that a checkpoint names: its own, and those under `in_the_loop` and `weights`."""
    inner = [one for value in votes.values() if isinstance(value, dict) for one in _snapshots(value)]
    return [*([str(votes["snapshot"])] if votes.get("snapshot") else []), *inner]


def _rated(session: Session, snapshot_id: str) -> set[str] | None:
    """Hashes of the prompts of the groups that the votes of a snapshot are about; None where it is gone."""
    snapshot = session.get(VoteSnapshot, snapshot_id)
    if snapshot is None:
        return None
    query = select(ImageGroup.prompt_hash).join(RatingEvent, RatingEvent.group_id == ImageGroup.id).distinct()
    found: set[str] = set()
    for start in range(0, len(snapshot.events), _PER_QUERY):
        part = snapshot.events[start : start + _PER_QUERY]
        found.update(session.scalars(query.where(RatingEvent.seq.in_(part))))
    return found


def _sentence(name: str, through: str, lessons: Sequence[Lesson], asked: Sequence[str]) -> str:
    count, noun = len(asked), "prompt" if len(asked) == 1 else "prompts"
    trained = frozenset[str]().union(*(lesson.trained for lesson in lessons))
    rated = frozenset[str]().union(*(lesson.rated for lesson in lessons)) - trained
    told, taught = (sum(one in hashes for one in asked) for hashes in (trained, rated))
    parts = []
    if told:
        parts.append(
            f"{told} of {count} {noun} trained {name}{through}: its numbers there say how well it learned "
            "its own prompts"
        )
    if taught:
        parts.append(
            f"ratings of {taught} of {count} {noun} taught the rewards of {name}: its numbers there say how "
            "well it learned what was rated"
        )
    unknown = dict.fromkeys(lesson.unknown for lesson in lessons if lesson.unknown)
    if unknown:
        parts.append(f"whether all other prompts are new to {name} is not known: {', '.join(unknown)}")
    words = "; ".join(parts)
    return f"{words[0].upper()}{words[1:]}." if words else ""


def _through(lessons: Sequence[Lesson], asked: Sequence[str]) -> str:
    """Which runs it were, where it was not the last one alone."""
    numbers = sorted(lesson.run_number for lesson in lessons if not lesson.trained.isdisjoint(asked))
    if not numbers or numbers == [lessons[0].run_number]:
        return ""
    *others, last = map(str, numbers)
    return f" by way of runs {', '.join(others)} and {last}" if others else f" by way of run {last}"

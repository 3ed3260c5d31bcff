"""Which checkpoints of a run keep their files. The rows stay, and say that the files were pruned."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from storage.engine import Database
from storage.lookup import required
from storage.models import Checkpoint, ImageGroup, Metric, Run, RunEvent
from storage.models_judging import BlindTest, Job
from storage.models_studio import SavedGrid
from storage.run_rules import RunRules, run_rules

BY_HAND = ("studio", "compare", "demo")
"""Kinds of groups that a person asked for: who drew with a checkpoint may want to again."""


@dataclass(frozen=True)
class Made:
    """A checkpoint whose files are there.

    Attributes:
        place: how manieth it is of all that its run ever made, from 0.
        is_needed: somebody pinned or promoted it, or something still has to read its files.
        score: what its held-out samples got; None where none were drawn of it.
    """

    id: str
    place: int
    is_needed: bool = False
    score: float | None = None


def to_prune(made: Sequence[Made], rules: RunRules) -> list[Made]:
    """Those whose files may go, oldest first: not the last ones, the best, every so manieth, nor the needed.

    Args:
        made: by place, the newest last.
    """
    if len(made) <= rules.keep_all_up_to:
        return []
    scored = [one for one in made if one.score is not None]
    best = max(scored, key=lambda one: (one.score or 0.0, one.place), default=None)
    last = made[-max(2, rules.keep_last) :]

    def stays(one: Made) -> bool:
        is_regular = rules.keep_every > 0 and one.place % rules.keep_every == 0
        return one.is_needed or is_regular or one is best or one in last

    return [one for one in made if not stays(one)]


def prunable(db: Database, run_id: str) -> list[Made]:
    """What `prune` would mark now."""
    rules = run_rules(db)
    with db.read() as session:
        return to_prune(_made(session, required(session, Run, run_id, "run")), rules)


def prune(db: Database, run_id: str, attempt: int) -> list[Checkpoint]:
    """Marks what the rules let go as pruned, and returns it; whoever calls then removes the files.

    Nothing is marked by a process of an earlier attempt. What is needed is looked at in the same transaction,
    so that nobody can ask for a checkpoint between the look and the mark.
    """
    rules = run_rules(db)
    with db.write() as session:
        run = required(session, Run, run_id, "run")
        if run.attempt != attempt:
            return []
        gone = [
            required(session, Checkpoint, one.id, "checkpoint")
            for one in to_prune(_made(session, run), rules)
        ]
        for one in gone:
            one.state = "pruned"
        if gone:
            updates = [one.update for one in gone]
            event = RunEvent(run_id=run_id, attempt=attempt, kind="pruned", payload={"updates": updates})
            event.detail = f"The files of {len(gone)} earlier checkpoints were removed, as the rules say."
            session.add(event)
        return gone


def _made(session: Session, run: Run) -> list[Made]:
    query = select(Checkpoint).where(Checkpoint.run_id == run.id).order_by(Checkpoint.update)
    rows = list(session.scalars(query))
    there = {row.id for row in rows if row.state == "committed"}
    needed, scores = needed_among(session, there), _scores(session, run)
    return [
        Made(
            row.id,
            place,
            is_needed=row.pinned or row.promoted_at is not None or row.id in needed,
            score=scores.get(row.update),
        )
        for place, row in enumerate(rows)
        if row.id in there
    ]


def needed_among(session: Session, ids: Collection[str]) -> set[str]:
    """Those whose files something has to read: a run that starts from them, groups that are to be drawn or
    that a person drew, jobs under way, blind tests that are open, saved grids.
    """
    parents = session.scalars(select(Run.parent_checkpoint_id).where(Run.parent_checkpoint_id.in_(ids)))
    wanted = or_(ImageGroup.state.in_(("queued", "running")), ImageGroup.kind.in_(BY_HAND))
    drawn = session.scalars(select(ImageGroup.checkpoint_id).where(ImageGroup.checkpoint_id.in_(ids), wanted))
    named: list[object] = [
        *session.scalars(select(Job.payload).where(Job.state.in_(("queued", "running")))),
        *session.scalars(select(BlindTest.checkpoints).where(BlindTest.revealed_at.is_(None))),
        *session.scalars(select(SavedGrid.spec)),
    ]
    text = json.dumps(named)
    return {*parents, *drawn, *(one for one in ids if one in text)}


def _scores(session: Session, run: Run) -> dict[int, float]:
    """Update to the score of its held-out grid: by the run's judges, or by its rewards as it weighs them."""
    judges = run.config.get("judges") or ()
    weights: Mapping[str, float] = dict.fromkeys(judges, 1.0) or run.config.get("reward_weights") or {}
    names = {f"held_out/{name}": weight for name, weight in weights.items()}
    query = select(Metric).where(Metric.run_id == run.id, Metric.name.in_(names), Metric.update > 0)
    found: dict[int, dict[str, float]] = {}
    for one in session.scalars(query):
        found.setdefault(one.update, {})[one.name] = one.value
    return {
        update: sum(names[name] * value for name, value in values.items())
        for update, values in found.items()
        if values.keys() == names.keys()
    }

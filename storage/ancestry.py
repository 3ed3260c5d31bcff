"""Where a checkpoint comes from and what became of it: runs, prompts, rewards, votes, figures, files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.engine import Database
from storage.lookup import required
from storage.models import BaseModel, Checkpoint, PromptRecord, PromptSet, RatingEvent, Run
from storage.models_judging import BlindTest, Evaluation, VoteSnapshot
from storage.models_studio import Export

_PER_QUERY = 500
_SOURCES = ("in_the_loop", "weights")
"""Keys under which the votes of a checkpoint name more than one snapshot."""


@dataclass(frozen=True)
class VotesBehind:
    """A snapshot of votes that a checkpoint learned from.

    Attributes:
        how: "ratings" (they were its data), "head" (a preference head was fitted to them), "in_the_loop"
            (people rated the run's own groups) or "weights" (its reward weights were fitted to them).
        count: votes in it; 0 where the snapshot is gone.
        taken_back: those of them that somebody has taken back since.
    """

    how: str
    snapshot: str
    hash: str
    count: int
    taken_back: int


@dataclass(frozen=True)
class Step:
    """A checkpoint of the line with what made it.

    Attributes:
        run: what made it; None for a base and for an imported file (`checkpoint.origin` names that).
        prompt_set: the version of the set that its prompts were taken from; found by content where the run
            does not name it; None where no set has exactly these prompts.
        num_prompts: training prompts of the run.
        rewards: name to weight, those of weight 0 left out.
    """

    checkpoint: Checkpoint
    run: Run | None
    prompt_set: PromptSet | None
    num_prompts: int
    rewards: Mapping[str, float]
    votes: Sequence[VotesBehind]


@dataclass(frozen=True)
class Lineage:
    """Of one checkpoint.

    Attributes:
        steps: it, its parent, and so on down to the base's own checkpoint.
        figures: evaluations of it, oldest first.
        blind: blind tests that it takes part in, revealed ones alone: before that nobody may know.
        exports: files that were written of it, oldest first.
        runs: runs that started from it.
    """

    base: BaseModel
    steps: Sequence[Step]
    figures: Sequence[Evaluation]
    blind: Sequence[BlindTest]
    exports: Sequence[Export]
    runs: Sequence[Run]


def lineage_of(db: Database, checkpoint_id: str) -> Lineage:
    """Everything that rows say of where a checkpoint comes from, in one consistent view.

    Raises:
        LookupError: no such checkpoint.
    """
    with db.read() as session:
        one = required(session, Checkpoint, checkpoint_id, "checkpoint")
        base = required(session, BaseModel, one.base_model_id, "base model")
        about = Evaluation.checkpoint_id == one.id
        return Lineage(
            base=base,
            steps=_steps(session, one),
            figures=list(session.scalars(select(Evaluation).where(about).order_by(Evaluation.created_at))),
            blind=_blind(session, one.id),
            exports=list(
                session.scalars(
                    select(Export).where(Export.checkpoint_id == one.id).order_by(Export.created_at)
                )
            ),
            runs=list(
                session.scalars(select(Run).where(Run.parent_checkpoint_id == one.id).order_by(Run.number))
            ),
        )


def _steps(session: Session, one: Checkpoint) -> list[Step]:
    found = [_step(session, one)]
    while one.parent_id is not None:
        one = required(session, Checkpoint, one.parent_id, "checkpoint")
        found.append(_step(session, one))
    return found


def _step(session: Session, one: Checkpoint) -> Step:
    run = session.get(Run, one.run_id) if one.run_id else None
    if run is None:
        return Step(one, None, None, 0, {}, ())
    config: Mapping[str, Any] = run.config
    prompts = list(config.get("prompts") or ())
    weights = {name: float(weight) for name, weight in (config.get("reward_weights") or {}).items() if weight}
    how = "ratings" if config.get("ratings") else "head"
    votes = _votes(session, how, one.votes) if one.votes else []
    return Step(one, run, _prompt_set(session, run, prompts), len(prompts), weights, votes)


def _prompt_set(session: Session, run: Run, prompts: Sequence[str]) -> PromptSet | None:
    """The set that the run names, else the newest version of any whose training prompts are these."""
    if run.prompt_set_id is not None:
        return session.get(PromptSet, run.prompt_set_id)
    if not prompts:
        return None
    first = PromptRecord.position == 0, PromptRecord.split == "train", PromptRecord.text == prompts[0]
    likely = select(PromptSet).join(PromptRecord, PromptRecord.prompt_set_id == PromptSet.id).where(*first)
    for one in session.scalars(likely.order_by(PromptSet.created_at.desc())):
        its_own = PromptRecord.prompt_set_id == one.id, PromptRecord.split == "train"
        texts = session.scalars(select(PromptRecord.text).where(*its_own).order_by(PromptRecord.position))
        if list(texts) == prompts:
            return one
    return None


def _votes(session: Session, how: str, named: Mapping[str, Any]) -> list[VotesBehind]:
    """What a checkpoint's row says of its votes: the first source plainly, the others under their names."""
    found = []
    if named.get("snapshot"):
        is_weights = how == "head" and "fit" in named and "groups" not in named
        is_loop = how == "head" and "fit" not in named
        source = "weights" if is_weights else "in_the_loop" if is_loop else how
        found.append(_behind(session, source, named))
    inner = [(name, named[name]) for name in _SOURCES if isinstance(named.get(name), dict)]
    return found + [_behind(session, name, one) for name, one in inner]


def _behind(session: Session, how: str, named: Mapping[str, Any]) -> VotesBehind:
    snapshot = session.get(VoteSnapshot, str(named["snapshot"]))
    if snapshot is None:
        return VotesBehind(how, str(named["snapshot"]), str(named.get("hash", "")), 0, 0)
    gone = sum(
        _taken_back(session, snapshot.events[start : start + _PER_QUERY])
        for start in range(0, len(snapshot.events), _PER_QUERY)
    )
    return VotesBehind(how, snapshot.id, snapshot.hash, len(snapshot.events), gone)


def _taken_back(session: Session, numbers: Sequence[int]) -> int:
    """How many of these votes belong to an act that was undone."""
    undone = select(RatingEvent.act_id).where(RatingEvent.kind == "undo")
    gone = select(RatingEvent.seq).where(RatingEvent.seq.in_(numbers), RatingEvent.act_id.in_(undone))
    return len(list(session.scalars(gone)))


def _blind(session: Session, checkpoint_id: str) -> list[BlindTest]:
    query = select(BlindTest).where(BlindTest.revealed_at.is_not(None)).order_by(BlindTest.seq)
    return [test for test in session.scalars(query) if checkpoint_id in test.checkpoints]

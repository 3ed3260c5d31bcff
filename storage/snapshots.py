"""Which votes something learned from: frozen, hashed, and nameable ever after; and what was learned."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select, update

from storage.engine import Database
from storage.exclusion import counted, exclusions
from storage.lookup import next_number, required
from storage.models import ImageGroup, RatingEvent
from storage.models_judging import FitKind, FitState, PreferenceFit, VoteSnapshot
from storage.ratings_current import standing
from storage.types import canonical_json, utc_now

_PER_QUERY = 500


def standing_votes(db: Database, group_ids: Sequence[str] | None = None) -> list[RatingEvent]:
    """Every rating event that no undo took back, in order; of some groups, or of all. The votes of those who
    are excluded are not among them."""
    query = select(RatingEvent).order_by(RatingEvent.seq)
    if group_ids is not None:
        query = query.where(RatingEvent.group_id.in_(group_ids))
    with db.read() as session:
        return counted(session, standing(list(session.scalars(query))))


def take_snapshot(db: Database, votes: Sequence[RatingEvent]) -> VoteSnapshot:
    """Freezes some votes; the same votes are the same snapshot.

    Raises ValueError where there are none.
    """
    if not votes:
        raise ValueError("there are no votes to learn from: rate some groups first")
    ordered = sorted(votes, key=lambda vote: vote.seq)
    digest = hashlib.sha256(canonical_json([_said(vote) for vote in ordered]).encode()).hexdigest()
    with db.write() as session:
        found = session.scalar(select(VoteSnapshot).where(VoteSnapshot.hash == digest))
        if found is None:
            found = VoteSnapshot(hash=digest, events=[vote.seq for vote in ordered])
            session.add(found)
        return found


def snapshot_of(db: Database, numbers: Sequence[int]) -> VoteSnapshot:
    """Freezes the votes of these numbers (`seq`), those that were taken back since among them.

    Raises ValueError where there are none.
    """
    votes: list[RatingEvent] = []
    with db.read() as session:
        for start in range(0, len(numbers), _PER_QUERY):
            part = RatingEvent.seq.in_(numbers[start : start + _PER_QUERY])
            votes.extend(session.scalars(select(RatingEvent).where(part)))
    return take_snapshot(db, votes)


def get_snapshot(db: Database, snapshot_id: str) -> VoteSnapshot:
    """Raises LookupError when there is none with this id."""
    with db.read() as session:
        return required(session, VoteSnapshot, snapshot_id, "snapshot of votes")


def votes_of(db: Database, snapshot_id: str) -> list[RatingEvent]:
    """The events of a snapshot, in order; undone ones are among them, since they were learned from."""
    with db.read() as session:
        snapshot = required(session, VoteSnapshot, snapshot_id, "snapshot of votes")
        rows = session.scalars(select(RatingEvent).where(RatingEvent.seq.in_(snapshot.events)))
        return sorted(rows, key=lambda vote: vote.seq)


def _said(vote: RatingEvent) -> list[Any]:
    return [
        vote.id, vote.annotator_id, vote.group_id, vote.kind, vote.image_id, vote.value, vote.payload,
    ]  # fmt: skip


def record_fit(  # noqa: PLR0913  (keywords, one per column)
    db: Database,
    *,
    kind: FitKind,
    snapshot_id: str,
    version: str,
    detail: dict[str, Any],
    num_pairs: int,
    accuracy: float | None = None,
    low: float | None = None,
    high: float | None = None,
    baseline: float | None = None,
    state: FitState = "proposed",
) -> PreferenceFit:
    """Keeps what was learned from a snapshot.

    Args:
        accuracy, low, high: held out, over pairs, with the 95% interval.
        baseline: of what was in use before, on the same pairs.
    """
    fit = PreferenceFit(kind=kind, snapshot_id=snapshot_id, version=version, detail=detail)
    fit.num_pairs, fit.baseline, fit.state = num_pairs, baseline, state
    fit.accuracy, fit.low, fit.high = accuracy, low, high
    with db.write() as session:
        required(session, VoteSnapshot, snapshot_id, "snapshot of votes")
        fit.seq = next_number(session, PreferenceFit.seq)
        session.add(fit)
    return fit


def set_fit_state(db: Database, fit_id: str, state: FitState, why: str | None = None) -> PreferenceFit:
    """Applies or withdraws a fit; of one kind, at most one is applied at a time.

    Args:
        why: a sentence, where no person did so but the program. It stands in the fit's detail, as `why`, for
            as long as this state does.

    Where a head goes out of use and no newer one takes its place, what it said of open groups goes with it:
    they are offered as without a head.
    """
    with db.write() as session:
        fit = required(session, PreferenceFit, fit_id, "fit")
        in_use = select(PreferenceFit).where(
            PreferenceFit.kind == fit.kind, PreferenceFit.state == "applied", PreferenceFit.id != fit_id
        )
        gone = list(session.scalars(in_use)) if state == "applied" else []
        for other in gone:
            _move(other, "withdrawn", None)
        if fit.state == "applied" and state != "applied":
            gone.append(fit)
        _move(fit, state, why)
        if fit.kind == "head" and any(one.seq >= fit.seq for one in gone):
            ranked = update(ImageGroup).where(ImageGroup.priority.is_not(None))
            session.execute(ranked.values(priority=None))
        return fit


def _move(fit: PreferenceFit, state: FitState, why: str | None) -> None:
    fit.state, fit.changed_at = state, utc_now()
    kept = {key: value for key, value in fit.detail.items() if key != "why"}
    fit.detail = kept | ({"why": why} if why is not None else {})


def get_fit(db: Database, fit_id: str) -> PreferenceFit:
    """Raises LookupError when there is none with this id."""
    with db.read() as session:
        return required(session, PreferenceFit, fit_id, "fit")


def fits(db: Database, kind: FitKind, limit: int = 50) -> list[PreferenceFit]:
    """Newest first."""
    query = select(PreferenceFit).where(PreferenceFit.kind == kind).order_by(PreferenceFit.seq.desc())
    with db.read() as session:
        return list(session.scalars(query.limit(limit)))


def last_moved_fit(db: Database, kind: FitKind) -> PreferenceFit | None:
    """The one that was applied or withdrawn last."""
    query = select(PreferenceFit).where(PreferenceFit.kind == kind, PreferenceFit.changed_at.is_not(None))
    newest = PreferenceFit.changed_at.desc(), PreferenceFit.seq.desc()
    with db.read() as session:
        return session.scalar(query.order_by(*newest).limit(1))


def applied_fit(db: Database, kind: FitKind) -> PreferenceFit | None:
    """The one in use."""
    query = select(PreferenceFit).where(PreferenceFit.kind == kind, PreferenceFit.state == "applied")
    with db.read() as session:
        return session.scalar(query.limit(1))


def num_votes(db: Database) -> int:
    """Rating events so far, whatever became of them."""
    with db.read() as session:
        return session.scalar(select(func.count()).select_from(RatingEvent)) or 0


def stamp(db: Database) -> str:
    """Changes with every rating event, and when somebody's votes begin or cease to count."""
    return f"{num_votes(db)} {' '.join(sorted(exclusions(db)))}".strip()

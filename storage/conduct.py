"""How each person judges, as far as counting tells: which side they choose, and how long they take."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator

from sqlalchemy import func, select

from storage import blind
from storage.engine import Database
from storage.models import RatingEvent
from storage.rating_kinds import pair_key

_PACE_OF = 200
"""Votes, the newest, that a pace is taken from."""


def sides(db: Database) -> dict[str, tuple[int, int]]:
    """User id to (left ones, decided ones) of the pairs that they judged, blind ones among them.

    Of two images that somebody judged twice, the last word counts; ties and skips decide nothing.
    """
    found: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for who, is_left in (*_pairs(db), *_blind_pairs(db)):
        left, decided = found[who]
        found[who] = left + is_left, decided + 1
    return dict(found)


def _pairs(db: Database) -> Iterator[tuple[str, bool]]:
    undone = select(RatingEvent.act_id).where(RatingEvent.kind == "undo")
    query = select(RatingEvent.annotator_id, RatingEvent.payload)
    query = query.where(RatingEvent.kind == "pair", RatingEvent.act_id.not_in(undone))
    last: dict[tuple[str, frozenset[str]], str] = {}
    with db.read() as session:
        for who, payload in session.execute(query.order_by(RatingEvent.seq)):
            last[who, pair_key(payload)] = payload["outcome"]
    yield from ((who, said == "left") for (who, _), said in last.items() if said in ("left", "right"))


def _blind_pairs(db: Database) -> Iterator[tuple[str, bool]]:
    for vote in blind.last_words(db):
        if vote.outcome in ("first", "second"):
            yield vote.annotator_id, (vote.outcome == "second") == vote.swapped


def pace(db: Database, user_id: str) -> float | None:
    """Median seconds from showing a group to this person's vote on it, of anybody's where they have none;
    None where nobody voted."""
    acts = select(func.max(RatingEvent.lead_ms)).where(RatingEvent.lead_ms.is_not(None))
    acts = acts.group_by(RatingEvent.act_id).order_by(func.max(RatingEvent.seq).desc()).limit(_PACE_OF)
    with db.read() as session:
        mine = list(session.scalars(acts.where(RatingEvent.annotator_id == user_id)))
        known = [lead for lead in mine or session.scalars(acts) if lead is not None]
    return statistics.median(known) / 1000 if known else None

"""Which two images of a group somebody is asked to compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.engine import Database
from storage.models import RatingEvent
from storage.models_studio import CheckItem
from storage.offers import lot
from storage.rating_kinds import pair_key
from storage.ratings_current import standing


def pair_of(db: Database, group_id: str, images: Sequence[str], annotator_id: str) -> tuple[str, str] | None:
    """(left, right): the two of which least is known, on sides that chance gave this annotator.

    That is the two that were compared least often; among these the two that people like most equally. Who
    is asked a second time sees the same two, and of a group with a known answer one is accepted.

    Args:
        images: ids of the whole group; fewer than two make no pair, and None.
    """
    if len(images) < 2:
        return None
    with db.read() as session:
        two = _two(session, group_id, images, annotator_id)
    first, second = sorted(two)
    return (first, second) if lot(annotator_id, group_id, "side") < 0.5 else (second, first)


def _two(session: Session, group_id: str, images: Sequence[str], annotator_id: str) -> tuple[str, str]:
    choice = lot(annotator_id, group_id, "pair")
    check = session.get(CheckItem, group_id)
    if check is not None:
        right = [image for image in images if image in check.accepted]
        wrong = [image for image in images if image not in check.accepted]
        return right[int(choice * len(right))], wrong[int(choice * len(wrong))]
    query = select(RatingEvent).where(RatingEvent.group_id == group_id).order_by(RatingEvent.seq)
    votes = standing(list(session.scalars(query)))
    mine = [vote for vote in votes if vote.kind == "pair" and vote.annotator_id == annotator_id]
    if mine:
        return mine[-1].payload["left"], mine[-1].payload["right"]
    return _least_known(votes, images, choice)


def _least_known(votes: Sequence[RatingEvent], images: Sequence[str], choice: float) -> tuple[str, str]:
    compared: Counter[frozenset[str]] = Counter()
    liked: Counter[str] = Counter()
    for vote in votes:
        if vote.kind == "best" and vote.image_id:
            liked[vote.image_id] += 1
        elif vote.kind == "pair":
            compared[pair_key(vote.payload)] += 1
            if (side := vote.payload["outcome"]) in ("left", "right"):
                liked[vote.payload[side]] += 1

    def known(pair: tuple[str, str]) -> tuple[int, int]:
        return compared[frozenset(pair)], abs(liked[pair[0]] - liked[pair[1]])

    pairs = list(combinations(images, 2))
    least = min(map(known, pairs))
    open_pairs = [pair for pair in pairs if known(pair) == least]
    return open_pairs[int(choice * len(open_pairs))]

"""What rewards and encoders said about pixels before: so that nothing is computed twice."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from sqlalchemy import select

from storage.engine import Database
from storage.models_judging import CachedScore, Embedding, RewardCard
from storage.types import utc_now

_PER_QUERY = 500
"""Keys in one SQL statement."""


class ScoreKey(NamedTuple):
    """What a value belongs to."""

    image_sha256: str
    """Of shape and RGB bytes."""
    prompt_hash: str


def cached_scores(
    db: Database, reward: str, version: str, keys: Collection[ScoreKey]
) -> dict[ScoreKey, tuple[float | None, str | None]]:
    """Value and reason of those keys that are known."""
    found: dict[ScoreKey, tuple[float | None, str | None]] = {}
    wanted = set(keys)
    with db.read() as session:
        for part in _parts(sorted({key.image_sha256 for key in wanted})):
            rows = select(CachedScore).where(
                CachedScore.image_sha256.in_(part),
                CachedScore.reward == reward,
                CachedScore.version == version,
            )
            for row in session.scalars(rows):
                key = ScoreKey(row.image_sha256, row.prompt_hash)
                if key in wanted:
                    found[key] = (row.value, row.reason)
    return found


def cache_scores(
    db: Database, reward: str, version: str, values: Mapping[ScoreKey, tuple[float | None, str | None]]
) -> None:
    """Keeps values; one that is known already is replaced."""
    with db.write() as session:
        for key, (value, reason) in values.items():
            row = CachedScore(reward=reward, version=version, value=value, reason=reason)
            row.image_sha256, row.prompt_hash = key
            session.merge(row)


def cached_embeddings(db: Database, encoder: str, images: Collection[str]) -> dict[str, bytes]:
    """Image hash to little-endian float32, of those that are known."""
    found: dict[str, bytes] = {}
    with db.read() as session:
        for part in _parts(sorted(set(images))):
            rows = select(Embedding).where(Embedding.image_sha256.in_(part), Embedding.encoder == encoder)
            found |= {row.image_sha256: row.vector for row in session.scalars(rows)}
    return found


def cache_embeddings(db: Database, encoder: str, vectors: Mapping[str, bytes]) -> None:
    """Keeps vectors; one that is known already is replaced."""
    with db.write() as session:
        for sha256, vector in vectors.items():
            session.merge(Embedding(image_sha256=sha256, encoder=encoder, vector=vector))


def publish_cards(db: Database, cards: Mapping[str, dict[str, object]]) -> None:
    """Replaces what pages know about the rewards."""
    with db.write() as session:
        for row in session.scalars(select(RewardCard)):
            if row.name not in cards:
                session.delete(row)
        for name, detail in cards.items():
            session.merge(RewardCard(name=name, detail=detail, updated_at=utc_now()))


def reward_cards(db: Database) -> dict[str, dict[str, object]]:
    """Name to card, in order of names."""
    with db.read() as session:
        rows = session.scalars(select(RewardCard).order_by(RewardCard.name))
        return {row.name: row.detail for row in rows}


def _parts(keys: Sequence[str]) -> Iterator[list[str]]:
    left = iter(keys)
    while part := list(islice(left, _PER_QUERY)):
        yield part

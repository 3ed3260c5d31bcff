"""Figures about checkpoints: measured once, kept with what it takes to trust them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from storage.engine import Database
from storage.lookup import required
from storage.models import Checkpoint
from storage.models_judging import Evaluation


def record_evaluation(  # noqa: PLR0913  (keywords, one per column)
    db: Database,
    *,
    checkpoint_id: str,
    metric: str,
    value: float,
    n: int,
    extractor: str,
    low: float | None = None,
    high: float | None = None,
    detail: dict[str, Any] | None = None,
) -> Evaluation:
    """Keeps one figure.

    Args:
        n: images behind the figure.
        extractor: name and version of the network that measured.
        low, high: ends of the 95% interval.

    Raises:
        LookupError: no such checkpoint.
    """
    row = Evaluation(checkpoint_id=checkpoint_id, metric=metric, value=value, n=n, extractor=extractor)
    row.low, row.high, row.detail = low, high, detail or {}
    with db.write() as session:
        required(session, Checkpoint, checkpoint_id, "checkpoint")
        session.add(row)
    return row


def evaluations_of(db: Database, checkpoint_id: str) -> list[Evaluation]:
    """All figures of a checkpoint, oldest first."""
    query = select(Evaluation).where(Evaluation.checkpoint_id == checkpoint_id)
    with db.read() as session:
        return list(session.scalars(query.order_by(Evaluation.created_at, Evaluation.id)))

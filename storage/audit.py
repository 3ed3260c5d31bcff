"""Who did what: written in the transaction of the act itself, and never changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.engine import Database
from storage.models import User
from storage.models_studio import Audit


@dataclass(frozen=True)
class AuditEntry:
    """One act with the name of who did it."""

    at: datetime
    who: str
    act: str
    target: str
    detail: dict[str, Any]
    id: str = ""
    """Orders acts in time: the cursor of a page."""


def note(session: Session, user_id: str, act: str, target: str, detail: dict[str, Any] | None = None) -> None:
    """Adds an act to the transaction under way."""
    session.add(Audit(user_id=user_id, act=act, target=target, detail=detail or {}))


def latest(db: Database, limit: int = 100) -> list[AuditEntry]:
    """Newest first."""
    return page(db, limit=limit)


def page(
    db: Database,
    *,
    who: str | None = None,
    act: str | None = None,
    before: str | None = None,
    limit: int = 50,
) -> list[AuditEntry]:
    """Newest first: those of one person (user id), of one act, or before an entry's id, as asked."""
    query = select(Audit, User.name).join(User, User.id == Audit.user_id)
    if who:
        query = query.where(Audit.user_id == who)
    if act:
        query = query.where(Audit.act == act)
    if before:
        query = query.where(Audit.id < before)
    with db.read() as session:
        rows = session.execute(query.order_by(Audit.id.desc()).limit(limit)).all()
    return [AuditEntry(one.at, name, one.act, one.target, one.detail, one.id) for one, name in rows]


def acts(db: Database) -> list[str]:
    """Every kind of act that was ever noted."""
    with db.read() as session:
        return list(session.scalars(select(Audit.act).distinct().order_by(Audit.act)))


def people(db: Database) -> list[tuple[str, str]]:
    """(name, user id) of everybody who ever did something that was noted, by name."""
    query = select(User.name, User.id).where(User.id.in_(select(Audit.user_id))).order_by(User.name)
    with db.read() as session:
        return [(name, user_id) for name, user_id in session.execute(query)]

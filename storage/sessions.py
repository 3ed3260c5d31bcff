"""Browsers that are logged in. Whether somebody still may is read from their row at every request."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from storage import audit
from storage.engine import Database
from storage.lookup import required
from storage.models import User
from storage.models_access import LoginSession
from storage.secrecy import hash_of, new_secret
from storage.types import utc_now

IDLE = timedelta(hours=12)
"""A browser that asks for nothing for so long is logged out."""
LONGEST = timedelta(days=7)
"""And every browser after that, whatever it does."""
TOUCH = timedelta(minutes=1)
MAX_BROWSER = 200


def open_session(db: Database, user_id: str, browser: str = "", now: datetime | None = None) -> str:
    """Logs a browser in; returns the secret of its cookie, which nobody can read again.

    Args:
        browser: what it calls itself.

    Raises:
        LookupError: there is no such user. ValueError: they are not active.
    """
    secret, at = new_secret(), now or utc_now()
    with db.write() as session:
        user = required(session, User, user_id, "user")
        if not user.active:
            raise ValueError(f"{user.name} is not active any more: ask an admin")
        session.execute(delete(LoginSession).where(LoginSession.expires_at < at))
        session.add(
            LoginSession(
                secret_hash=hash_of(secret), user_id=user.id, browser=browser[:MAX_BROWSER], created_at=at,
                seen_at=at, expires_at=at + LONGEST,
            )
        )  # fmt: skip
        audit.note(session, user.id, "login", user.id)
    return secret


def who(db: Database, secret: str, now: datetime | None = None) -> User | None:
    """Whose browser this is, as their row says now; None where it is nobody's, or not any more."""
    at = now or utc_now()
    query = select(LoginSession, User).join(User, User.id == LoginSession.user_id)
    with db.read() as session:
        found = session.execute(query.where(LoginSession.secret_hash == hash_of(secret))).one_or_none()
    if found is None:
        return None
    kept, user = found
    if not user.active or at >= min(kept.expires_at, kept.seen_at + IDLE):
        return None
    if at - kept.seen_at >= TOUCH:
        _touch(db, kept.secret_hash, at)
    return user


def _touch(db: Database, secret_hash: str, at: datetime) -> None:
    with db.write() as session:
        kept = session.get(LoginSession, secret_hash)
        if kept is not None:
            kept.seen_at = at


def close_session(db: Database, secret: str) -> None:
    """Logs a browser out; one that is not logged in is no error."""
    with db.write() as session:
        kept = session.get(LoginSession, hash_of(secret))
        if kept is not None:
            session.delete(kept)
            audit.note(session, kept.user_id, "logout", kept.user_id)


def sessions_of(db: Database, user_id: str, now: datetime | None = None) -> list[LoginSession]:
    """Where somebody is logged in, the last seen first."""
    at = now or utc_now()
    query = select(LoginSession).where(LoginSession.user_id == user_id, LoginSession.expires_at > at)
    with db.read() as session:
        found = session.scalars(query.order_by(LoginSession.seen_at.desc())).all()
        return [one for one in found if at < one.seen_at + IDLE]


def revoke(db: Database, user_id: str, but: str = "", secret_hash: str = "") -> int:
    """Logs somebody out of one browser (`secret_hash`), or of all `but` that of a secret; of how many."""
    with db.write() as session:
        ended = end_all(session, user_id, but, secret_hash)
        audit.note(session, user_id, "session.revoke", user_id, {"sessions": ended})
        return ended


def end_all(session: Session, user_id: str, but: str = "", secret_hash: str = "") -> int:
    """The same in the transaction under way."""
    query = select(LoginSession).where(LoginSession.user_id == user_id)
    if secret_hash:
        query = query.where(LoginSession.secret_hash == secret_hash)
    ended = [one for one in session.scalars(query) if not but or one.secret_hash != hash_of(but)]
    for one in ended:
        session.delete(one)
    return len(ended)

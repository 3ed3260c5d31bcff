"""Addresses at which somebody sets a password, once: how the first admin and everybody after them get in."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage import accounts, audit
from storage.engine import Database
from storage.lookup import required
from storage.models import User
from storage.models_access import LoginLink
from storage.secrecy import hash_of, new_secret
from storage.types import utc_now

VALID = timedelta(hours=48)
_USED_UP = "this link was used, or is too old: ask an admin for another one"


def make_link(db: Database, user_id: str, by: str) -> str:
    """A new link for somebody; returns its secret. Links that were made for them before work no more.

    Raises:
        LookupError: no such user. ValueError: they are not active, or the first account would not be an
        admin's.
    """
    secret = new_secret()
    with db.write() as session:
        user = required(session, User, user_id, "user")
        _check(session, user)
        at = utc_now()
        for old in session.scalars(select(LoginLink).where(LoginLink.user_id == user.id)):
            old.used_at = old.used_at or at
        session.add(
            LoginLink(secret_hash=hash_of(secret), user_id=user.id, created_by=by, expires_at=at + VALID)
        )
        audit.note(session, by, "user.link", user.id, {"name": user.name})
    return secret


def whose(db: Database, secret: str, now: datetime | None = None) -> User | None:
    """For whom a link is that can still be used; None for any other."""
    with db.read() as session:
        found = session.get(LoginLink, hash_of(secret))
        if found is None or found.used_at is not None or (now or utc_now()) >= found.expires_at:
            return None
        user = session.get(User, found.user_id)
        return user if user is not None and user.active else None


def use_link(db: Database, secret: str, password_hash: str, name: str = "") -> User:
    """Sets the password of the person that a link is for, and uses the link up.

    Args:
        name: what they are called from now on; empty: as before.

    Raises:
        ValueError: the link is used up or too old, or the name is taken.
    """
    with db.write() as session:
        link = session.get(LoginLink, hash_of(secret))
        if link is None or link.used_at is not None or utc_now() >= link.expires_at:
            raise ValueError(_USED_UP)
        user = required(session, User, link.user_id, "user")
        _check(session, user)
        link.used_at = utc_now()
        if name:
            accounts.rename(session, user, name)
        accounts.put_password(session, user, password_hash, by=user.id)
        return user


def _check(session: Session, user: User) -> None:
    if not user.active:
        raise ValueError(f"{user.name} is not active any more: let them in first")
    if user.role != "admin" and not accounts.has_admin(session):
        raise ValueError(
            "the first account must be an admin's, or nobody could change anything: make a link for an admin"
        )

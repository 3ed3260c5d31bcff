"""Tokens of scripts: what a program names instead of logging in. It may what its owner may."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import func, select

from storage import audit
from storage.engine import Database
from storage.lookup import required
from storage.models import User
from storage.models_access import ApiToken
from storage.secrecy import hash_of, new_secret
from storage.types import utc_now

PREFIX = "fgs_"
"""So that a token that leaked into a file or a log is found by searching for it."""
MAX_NAME, MAX_TOKENS = 60, 20
TOUCH = timedelta(minutes=1)


def make_token(db: Database, user_id: str, name: str) -> tuple[ApiToken, str]:
    """A new token and its secret, which nobody can read again.

    Raises:
        ValueError: for a name that is empty or too long, or too many tokens. LookupError: no such user.
    """
    name = " ".join(name.split())
    if not 1 <= len(name) <= MAX_NAME:
        raise ValueError(f"a token's name has 1 to {MAX_NAME} characters: say what will use it")
    secret = new_secret(PREFIX)
    with db.write() as session:
        user = required(session, User, user_id, "user")
        alive = select(func.count()).where(ApiToken.user_id == user.id, ApiToken.revoked_at.is_(None))
        if (session.scalar(alive) or 0) >= MAX_TOKENS:
            raise ValueError(f"there are {MAX_TOKENS} tokens already: revoke one that is not used any more")
        made = ApiToken(user_id=user.id, name=name, secret_hash=hash_of(secret))
        session.add(made)
        session.flush()
        audit.note(session, user.id, "token.make", made.id, {"name": name})
    return made, secret


def who(db: Database, secret: str, now: datetime | None = None) -> User | None:
    """Whose token this is, as their row says now; None for one that is unknown or revoked."""
    at = now or utc_now()
    query = select(ApiToken, User).join(User, User.id == ApiToken.user_id)
    with db.read() as session:
        found = session.execute(query.where(ApiToken.secret_hash == hash_of(secret))).one_or_none()
    if found is None or found[0].revoked_at is not None or not found[1].active:
        return None
    token, user = found
    if token.used_at is None or at - token.used_at >= TOUCH:
        with db.write() as session:
            required(session, ApiToken, token.id, "token").used_at = at
    return user


def tokens_of(db: Database, user_id: str) -> list[ApiToken]:
    """Somebody's tokens that still work, newest first."""
    query = select(ApiToken).where(ApiToken.user_id == user_id, ApiToken.revoked_at.is_(None))
    with db.read() as session:
        return list(session.scalars(query.order_by(ApiToken.id.desc())))


def revoke_token(db: Database, token_id: str, user_id: str) -> None:
    """From now on it is refused. Raises LookupError where this person has no such token."""
    with db.write() as session:
        token = required(session, ApiToken, token_id, "token")
        if token.user_id != user_id:
            raise LookupError(f"no token {token_id} of this person")
        token.revoked_at = token.revoked_at or utc_now()
        audit.note(session, user_id, "token.revoke", token.id, {"name": token.name})

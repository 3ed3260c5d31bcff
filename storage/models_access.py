"""Who may come in: sessions of browsers, tokens of scripts, links that set a password, and wrong guesses.

No secret is ever kept, only its SHA-256; each has 256 random bits, so that a slow hash would add nothing.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from storage.models import Record, own_id, ref
from storage.types import utc_now


class LoginSession(Record):
    """A browser in which somebody is logged in."""

    __tablename__ = "session"
    secret_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = ref("user.id", index=True)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    seen_at: Mapped[datetime] = mapped_column(default=utc_now)
    """To the minute: a write for every request would be one too many."""
    expires_at: Mapped[datetime]
    browser: Mapped[str]
    """What the browser calls itself, for the list in which its owner revokes it."""


class ApiToken(Record):
    """What a script names instead of a session; it may what its owner may."""

    __tablename__ = "api_token"
    id: Mapped[str] = own_id()
    user_id: Mapped[str] = ref("user.id", index=True)
    name: Mapped[str]
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class LoginLink(Record):
    """An address at which one person sets a password, once."""

    __tablename__ = "login_link"
    secret_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = ref("user.id", index=True)
    created_by: Mapped[str] = ref("user.id")
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class LoginThrottle(Record):
    """Wrong guesses of late, of one account or from one address."""

    __tablename__ = "login_throttle"
    key: Mapped[str] = mapped_column(String(80), primary_key=True)
    fails: Mapped[int]
    since: Mapped[datetime]
    locked_until: Mapped[datetime | None]

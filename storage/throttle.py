"""Wrong guesses: after five for an account, or twenty from an address, each further one waits longer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete
from sqlalchemy.orm import Session

from storage.engine import Database
from storage.models_access import LoginThrottle
from storage.secrecy import hash_of
from storage.types import utc_now

WINDOW = timedelta(minutes=15)
"""Guesses that are older are forgotten, once no wait is left."""
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=30), timedelta(minutes=15)
_KEPT = timedelta(days=1)
"""Since the first guess: no wait is left by then, and the table would grow with every address ever."""
LIMITS = {"account": 5, "address": 20}
"""Wrong guesses that are free, within the window."""


def keys_of(name: str, address: str) -> tuple[str, str]:
    """What a guess counts for: the account that it named (whether or not there is one), and its address."""
    return f"account:{hash_of(' '.join(name.split()).casefold())}", f"address:{hash_of(address)}"


def wait(db: Database, keys: Sequence[str], now: datetime | None = None) -> float:
    """Seconds until a guess is taken again; 0 where one is."""
    at = now or utc_now()
    with db.read() as session:
        return _locked(session, keys, at)


def take(db: Database, keys: Sequence[str], now: datetime | None = None) -> float:
    """Counts a guess as wrong before anybody looks at it, so that of many at once no more are looked at.

    Returns:
        0 where it may be looked at; else the seconds until one may, and nothing was counted.
    """
    at = now or utc_now()
    if seconds := wait(db, keys, at):  # without the lock of all writers, which a flood of guesses would hold
        return seconds
    with db.write() as session:
        if seconds := _locked(session, keys, at):
            return seconds
        for key in keys:
            row = session.get(LoginThrottle, key)
            if row is None:
                row = LoginThrottle(key=key, fails=0, since=at)
                session.add(row)
            elif at - max(row.since, row.locked_until or row.since) >= WINDOW:
                row.fails, row.since, row.locked_until = 0, at, None
            row.fails += 1
            beyond = row.fails - LIMITS[key.partition(":")[0]]
            if beyond >= 0:
                row.locked_until = at + min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(beyond, 10))
        session.execute(delete(LoginThrottle).where(LoginThrottle.since < at - _KEPT))
    return 0.0


def was_right(db: Database, keys: Sequence[str]) -> None:
    """A guess that was taken was right: what was wrong before counts no more for the account; for the address
    it alone does not, since whoever has an account could else guess at all others from there."""
    with db.write() as session:
        for key in keys:
            row = session.get(LoginThrottle, key)
            if row is not None and key.startswith("account:"):
                session.delete(row)
            elif row is not None:
                row.fails -= 1
                if row.fails < LIMITS["address"]:
                    row.locked_until = None  # this guess alone had locked it


def _locked(session: Session, keys: Sequence[str], at: datetime) -> float:
    rows = [session.get(LoginThrottle, key) for key in keys]
    locks = [row.locked_until for row in rows if row is not None and row.locked_until is not None]
    return max(0.0, *((until - at).total_seconds() for until in locks), 0.0)

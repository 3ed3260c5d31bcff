"""Whose votes do not count. They are kept, and their author is told: nobody is set aside in silence.

Everybody who learns from votes, or counts them, asks `counted`; what was learned before stays as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from storage import audit
from storage.engine import Database
from storage.lookup import required
from storage.models import RatingEvent, User
from storage.models_judging import BlindVote
from storage.models_studio import Setting
from storage.types import utc_now

KEY = "rating.excluded"
"""The setting: user id to {"since", "by", "why"}."""
MAX_WHY = 200
V = TypeVar("V", RatingEvent, BlindVote)


@dataclass(frozen=True)
class Exclusion:
    """Since when, by whom (user id), and the reason that its subject is told."""

    since: datetime
    by: str
    why: str


def exclusions(db: Database) -> dict[str, Exclusion]:
    """User id to why their votes do not count; who is absent counts."""
    with db.read() as session:
        known = _known(session)
    return {
        user: Exclusion(datetime.fromisoformat(one["since"]), one["by"], one["why"])
        for user, one in known.items()
    }


def counted(session: Session, votes: Sequence[V]) -> list[V]:
    """The votes of those who count, in order."""
    left_out = _known(session).keys()
    return [vote for vote in votes if vote.annotator_id not in left_out]


def last_changed(db: Database) -> datetime | None:
    """When somebody was excluded or included last; None where nobody ever was."""
    with db.read() as session:
        found = session.get(Setting, KEY)
        return None if found is None else found.changed_at


def exclude(db: Database, user_id: str, why: str, by: str = "local") -> Exclusion:
    """From now on the votes of this person do not count.

    Raises:
        ValueError: there is no reason to tell them, or it is too long.
        LookupError: there is nobody with this id.
    """
    why = " ".join(why.split())
    if not 1 <= len(why) <= MAX_WHY:
        raise ValueError(
            f"a reason has 1 to {MAX_WHY} characters, since the person is told it; this one has {len(why)}"
        )
    made = Exclusion(utc_now(), by, why)
    with db.write() as session:
        user = required(session, User, user_id, "user")
        kept = {"since": made.since.isoformat(), "by": by, "why": why}
        _put(session, _known(session) | {user_id: kept}, by)
        audit.note(session, by, "user.exclude", user_id, {"name": user.name, "why": why})
    return made


def include(db: Database, user_id: str, by: str = "local") -> None:
    """Their votes count again, those that they gave meanwhile too. Raises LookupError for nobody."""
    with db.write() as session:
        user = required(session, User, user_id, "user")
        known = _known(session)
        if user_id not in known:
            return
        _put(session, {key: value for key, value in known.items() if key != user_id}, by)
        audit.note(session, by, "user.include", user_id, {"name": user.name})


def _known(session: Session) -> dict[str, Any]:
    found = session.get(Setting, KEY)
    return {} if found is None else dict(found.value)


def _put(session: Session, value: dict[str, Any], by: str) -> None:
    session.merge(Setting(key=KEY, value=value, changed_by=by, changed_at=utc_now()))

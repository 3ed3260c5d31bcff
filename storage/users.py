"""People: who they are here, what they may do, and what they chose for themselves."""

from __future__ import annotations

from typing import Any, get_args

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage import accounts, audit
from storage.accounts import MAX_NAME as MAX_NAME
from storage.engine import Database
from storage.lookup import required
from storage.models import Role, User
from storage.sessions import end_all

LOCAL = "local"
"""The person who needs no login on loopback."""


def get_user(db: Database, user_id: str) -> User:
    """Raises LookupError when there is nobody with this id."""
    with db.read() as session:
        return required(session, User, user_id, "user")


def list_users(db: Database, *, active_only: bool = False) -> list[User]:
    """Everybody, by name."""
    with db.read() as session:
        people = session.scalars(select(User).order_by(User.name))
        return [one for one in people if one.active or not active_only]


def add_user(db: Database, name: str, role: Role, by: str = LOCAL) -> User:
    """Raises ValueError for a name that is empty, too long or taken, or an unknown role."""
    name = accounts.checked_name(name)
    _check_role(role)
    with db.write() as session:
        if session.scalar(select(User).where(User.name == name)) is not None:
            raise ValueError(f"there is a {name} already: choose another name")
        made = User(name=name, role=role)
        session.add(made)
        session.flush()
        audit.note(session, by, "user.add", made.id, {"name": name, "role": role})
        return made


def set_role(db: Database, user_id: str, role: Role, by: str = LOCAL) -> User:
    """Ends their sessions. Raises ValueError where nobody could administer the studio afterwards."""
    _check_role(role)
    with db.write() as session:
        user = required(session, User, user_id, "user")
        before, user.role = user.role, role
        session.flush()
        _check_an_admin_is_left(session)
        if role != before:
            end_all(session, user.id)
        audit.note(session, by, "user.role", user.id, {"name": user.name, "before": before, "after": role})
        return user


def set_active(db: Database, user_id: str, active: bool, by: str = LOCAL) -> User:
    """Lets somebody in or keeps them out; what they said stays. Raises ValueError for the last admin."""
    with db.write() as session:
        user = required(session, User, user_id, "user")
        user.active = active
        session.flush()
        _check_an_admin_is_left(session)
        end_all(session, user.id)
        audit.note(session, by, "user.active", user.id, {"name": user.name, "active": active})
        return user


def prefer(db: Database, user_id: str, **chosen: Any) -> User:
    """Keeps what somebody chose for themselves, beside what they chose before."""
    with db.write() as session:
        user = required(session, User, user_id, "user")
        user.preferences = {**(user.preferences or {}), **chosen}
        return user


def _check_role(role: str) -> None:
    if role not in get_args(Role):
        raise ValueError(f"expected one of the roles {', '.join(get_args(Role))}, got {role!r}")


def _check_an_admin_is_left(session: Session) -> None:
    """One who can log in, where people do."""
    admins = select(User.id).where(User.role == "admin", User.active)
    has_accounts = session.scalar(select(User.id).where(User.password_hash.is_not(None)).limit(1))
    if has_accounts is not None:
        admins = admins.where(User.password_hash.is_not(None))
    if session.scalar(admins.limit(1)) is None:
        raise ValueError("this is the last admin: make somebody else admin first")

"""Passwords of people. Once one is set, everybody logs in; until then this machine alone may come in."""

from __future__ import annotations

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from storage import audit
from storage.engine import Database
from storage.lookup import required
from storage.models import User
from storage.sessions import end_all

MAX_NAME = 60


def _with_password() -> Select[str]:
    return select(User.id).where(User.password_hash.is_not(None), User.active).limit(1)


_ANY = _with_password()
_ADMIN = _with_password().where(User.role == "admin")


def are_in_force(db: Database) -> bool:
    """Whether people log in here: somebody who may come in has a password."""
    with db.read() as session:
        return session.scalar(_ANY) is not None


def has_admin(session: Session) -> bool:
    """Whether an admin could log in."""
    return session.scalar(_ADMIN) is not None


def of_name(db: Database, name: str) -> User | None:
    """Who is called so; None for nobody."""
    with db.read() as session:
        return session.scalar(select(User).where(User.name == " ".join(name.split())))


def set_password(db: Database, user_id: str, password_hash: str, by: str, but: str = "") -> User:
    """Another password; every browser is logged out, `but` the one of that secret.

    Raises:
        LookupError: no such user. ValueError: the first account would not be an admin's.
    """
    with db.write() as session:
        user = required(session, User, user_id, "user")
        if user.role != "admin" and not has_admin(session):
            raise ValueError("the first account must be an admin's: set an admin's password first")
        put_password(session, user, password_hash, by, but)
        return user


def put_password(session: Session, user: User, password_hash: str, by: str, but: str = "") -> None:
    """The same in the transaction under way, whoever it is."""
    user.password_hash = password_hash
    end_all(session, user.id, but)
    audit.note(session, by, "user.password", user.id, {"name": user.name})


def rename(session: Session, user: User, name: str) -> None:
    """Raises ValueError for a name that is empty, too long or somebody else's."""
    name = checked_name(name)
    other = session.scalar(select(User).where(User.name == name))
    if other is not None and other.id != user.id:
        raise ValueError(f"there is a {name} already: choose another name")
    user.name = name


def checked_name(name: str) -> str:
    """A name without spaces around it. Raises ValueError for one that is empty or too long."""
    name = " ".join(name.split())
    if not 1 <= len(name) <= MAX_NAME:
        raise ValueError(f"a name has 1 to {MAX_NAME} characters, this one has {len(name)}: change it")
    return name

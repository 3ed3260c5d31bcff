"""Names are unique, an admin always stays, and every act on a person is noted with who did it."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from itertools import product
from typing import Any, get_args

import pytest

from storage import audit, users
from storage.engine import Database
from storage.models import Role

ROLES: tuple[Role, ...] = get_args(Role)


def admins(db: Database) -> list[str]:
    return [one.id for one in users.list_users(db, active_only=True) if one.role == "admin"]


def told(db: Database) -> list[tuple[str, str]]:
    return [(one.act, one.target) for one in audit.latest(db)]


@pytest.mark.parametrize("taken", ["Ann", " Ann ", "Ann\n", "  Ann"])
def test_a_name_is_given_once_however_it_is_spaced(db: Database, taken: str) -> None:
    users.add_user(db, "Ann", "annotator")
    with pytest.raises(ValueError, match="there is a Ann already"):
        users.add_user(db, taken, "viewer")
    assert [one.name for one in users.list_users(db)].count("Ann") == 1


@pytest.mark.parametrize("name", ["", "   ", "x" * 61])
def test_a_name_that_is_empty_or_too_long_is_refused_with_its_length(db: Database, name: str) -> None:
    before = users.list_users(db)
    with pytest.raises(ValueError, match=f"this one has {len(name.strip())}"):
        users.add_user(db, name, "viewer")
    assert [one.id for one in users.list_users(db)] == [one.id for one in before] and told(db) == []


def test_a_role_that_there_is_not_is_refused_and_those_that_there_are_named(db: Database) -> None:
    unknown: Any = "owner"
    with pytest.raises(ValueError, match="viewer, annotator, artist, trainer, admin"):
        users.add_user(db, "Ann", unknown)
    with pytest.raises(ValueError, match="got 'owner'"):
        users.set_role(db, "local", unknown)
    assert users.get_user(db, "local").role == "admin"


@pytest.mark.parametrize("role", [role for role in ROLES if role != "admin"])
def test_the_last_admin_keeps_the_role_and_nothing_is_noted(db: Database, role: Role) -> None:
    with pytest.raises(ValueError, match="last admin"):
        users.set_role(db, "local", role)
    assert admins(db) == ["local"] and told(db) == []


def test_the_last_admin_stays_active(db: Database) -> None:
    with pytest.raises(ValueError, match="last admin"):
        users.set_active(db, "local", False)
    assert users.get_user(db, "local").active and told(db) == []


def test_an_admin_who_is_not_active_does_not_count_as_one(db: Database) -> None:
    ann = users.add_user(db, "Ann", "admin")
    users.set_active(db, ann.id, False)
    with pytest.raises(ValueError, match="last admin"):
        users.set_role(db, "local", "viewer")


def test_whatever_is_tried_an_admin_is_left(db: Database) -> None:
    roles: tuple[Role, ...] = ("viewer", "trainer")
    ids = ["local", *(users.add_user(db, f"Person {n}", "admin").id for n in range(2))]
    for user_id, role, active in product(ids, roles, (False, True)):
        for attempt in (
            partial(users.set_role, db, user_id, role),
            partial(users.set_active, db, user_id, active),
        ):
            with suppress(ValueError):
                attempt()
            assert admins(db), (user_id, role, active)


def test_another_admin_makes_the_first_one_free_to_go(db: Database) -> None:
    ann = users.add_user(db, "Ann", "admin")
    users.set_role(db, "local", "viewer", by=ann.id)
    assert admins(db) == [ann.id]


def test_every_act_on_a_person_is_noted_with_who_did_it_and_what_changed(db: Database) -> None:
    ann = users.add_user(db, "Ann", "annotator")
    users.set_role(db, ann.id, "trainer")
    users.set_active(db, ann.id, False, by=ann.id)
    entries = audit.latest(db)
    assert [(one.act, one.who) for one in entries] == [
        ("user.active", "Ann"), ("user.role", "local"), ("user.add", "local"),
    ]  # fmt: skip
    assert entries[1].detail == {"name": "Ann", "before": "annotator", "after": "trainer"}
    assert entries[0].detail == {"name": "Ann", "active": False}
    assert {one.target for one in entries} == {ann.id}


def test_what_somebody_prefers_is_kept_beside_what_they_preferred_before(db: Database) -> None:
    users.prefer(db, "local", keys={"skip": "x"})
    users.prefer(db, "local", seen=["guidelines"])
    assert users.get_user(db, "local").preferences == {"keys": {"skip": "x"}, "seen": ["guidelines"]}
    assert told(db) == []


def test_nobody_is_found_under_an_unknown_id(db: Database) -> None:
    for act in (users.get_user, lambda db, who: users.set_active(db, who, False)):
        with pytest.raises(LookupError, match="no user with the id nobody"):
            act(db, "nobody")


def test_people_come_by_name_and_those_who_left_only_when_asked_for(db: Database) -> None:
    for name in ("Bea", "Ann"):
        users.add_user(db, name, "viewer")
    gone = users.add_user(db, "Cid", "viewer")
    users.set_active(db, gone.id, False)
    names = [one.name for one in users.list_users(db)]
    assert names == sorted(names) and "Cid" in names
    assert "Cid" not in [one.name for one in users.list_users(db, active_only=True)]

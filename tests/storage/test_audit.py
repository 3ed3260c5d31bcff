"""An act stands in the log exactly when it happened, and the log is read page by page without a gap."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import IntegrityError

from storage import audit, users
from storage.engine import Database
from storage.models import User


def noted(db: Database, number: int, who: str = "local", act: str = "run.start") -> None:
    for index in range(number):
        with db.write() as session:
            audit.note(session, who, act, f"{act} {index}")


def test_an_act_that_fails_leaves_no_trace_in_the_log(db: Database) -> None:
    def add_twice() -> None:
        with db.write() as session:
            audit.note(session, "local", "user.add", "ann")
            session.add(User(id="ann", name="Ann", role="viewer"))
            session.flush()
            session.add(User(id="bea", name="Ann", role="viewer"))

    with pytest.raises(IntegrityError):
        add_twice()
    assert audit.latest(db) == [] and "Ann" not in [one.name for one in users.list_users(db)]


def test_the_log_comes_newest_first_with_the_name_of_who_did_it(db: Database) -> None:
    ann = users.add_user(db, "Ann", "admin").id
    noted(db, 2, ann)
    assert [(one.who, one.target) for one in audit.latest(db)][:2] == [
        ("Ann", "run.start 1"), ("Ann", "run.start 0"),
    ]  # fmt: skip


@pytest.mark.parametrize("limit", [1, 3, 7, 50])
def test_page_after_page_gives_every_act_once_in_order(db: Database, limit: int) -> None:
    noted(db, 7)
    whole, seen, before = audit.latest(db), [], None
    while found := audit.page(db, before=before, limit=limit):
        assert len(found) <= limit
        seen += found
        before = found[-1].id
    assert seen == whole and len(seen) == 7


def test_what_happens_meanwhile_does_not_move_the_next_page(db: Database) -> None:
    noted(db, 4)
    first = audit.page(db, limit=2)
    noted(db, 3, act="run.stop")
    second = audit.page(db, before=first[-1].id, limit=2)
    assert [one.target for one in first + second] == [f"run.start {n}" for n in (3, 2, 1, 0)]


def test_the_log_is_filtered_by_person_and_by_act_together(db: Database) -> None:
    ann = users.add_user(db, "Ann", "admin").id
    noted(db, 2, ann, "run.start")
    noted(db, 2, "local", "run.start")
    noted(db, 1, ann, "run.stop")
    assert {one.who for one in audit.page(db, who=ann)} == {"Ann"} and len(audit.page(db, who=ann)) == 3
    assert len(audit.page(db, act="run.start")) == 4
    assert [one.target for one in audit.page(db, who=ann, act="run.stop")] == ["run.stop 0"]
    assert audit.page(db, who="nobody") == []


def test_the_choices_of_the_filters_are_what_the_log_holds(db: Database) -> None:
    assert audit.acts(db) == [] and audit.people(db) == []
    ann = users.add_user(db, "Ann", "admin").id
    users.add_user(db, "Idle", "viewer")
    noted(db, 1, ann, "run.stop")
    assert audit.acts(db) == ["run.stop", "user.add"]
    assert [name for name, _ in audit.people(db)] == ["Ann", "local"]

"""A comparison is saved once under a number, is never changed, and is found again."""

from __future__ import annotations

from typing import Any

import pytest

from storage import grids, users
from storage.engine import Database

SPEC: dict[str, Any] = {"kind": "axes", "x": {"axis": "steps", "values": ["4", "8"]}, "rest": {"seed": "7"}}


def test_saving_the_same_again_is_the_same_grid(db: Database) -> None:
    first = grids.save_grid(db, "steps", SPEC, "local")
    again = grids.save_grid(db, "  steps ", dict(reversed(SPEC.items())), "local")
    assert (first.id, first.seq) == (again.id, again.seq)
    assert grids.save_grid(db, "", SPEC, "local").id == first.id


def test_what_differs_is_a_new_grid_and_the_older_one_stays_as_it_was(db: Database) -> None:
    first = grids.save_grid(db, "steps", SPEC, "local")
    changed = grids.save_grid(db, "steps", SPEC | {"rest": {"seed": "8"}}, "local")
    named = grids.save_grid(db, "steps, for the talk", SPEC, "local")
    assert [first.seq, changed.seq, named.seq] == [1, 2, 3]
    assert grids.get_grid(db, first.id).spec == SPEC


def test_a_grid_is_found_by_what_it_says(db: Database) -> None:
    assert grids.grid_of(db, SPEC) is None
    made = grids.save_grid(db, "steps", SPEC, "local")
    newer = grids.save_grid(db, "again", SPEC, "local")
    found = grids.grid_of(db, dict(SPEC))
    assert found is not None and found.id == newer.id != made.id


def test_the_list_has_the_newest_first_and_says_who_saved_it(db: Database) -> None:
    other = users.add_user(db, "mika", "artist", by="local")
    grids.save_grid(db, "one", SPEC, "local")
    grids.save_grid(db, "two", SPEC | {"rest": {}}, other.id)
    listed = grids.list_grids(db)
    assert [(line.grid.name, line.who) for line in listed] == [("two", "mika"), ("one", "local")]
    assert [line.grid.name for line in grids.list_grids(db, limit=1)] == ["two"]


def test_a_name_that_is_too_long_and_an_unknown_person_are_refused(db: Database) -> None:
    with pytest.raises(ValueError, match="has 200 characters: shorten it to 120"):
        grids.save_grid(db, "x" * 200, SPEC, "local")
    with pytest.raises(LookupError, match="no user with the id nobody"):
        grids.save_grid(db, "n", SPEC, "nobody")
    with pytest.raises(LookupError, match="no saved grid with the id nothing"):
        grids.get_grid(db, "nothing")
    assert grids.list_grids(db) == []

"""A setting is one value a key, whoever set it last, and each change is noted."""

from __future__ import annotations

from typing import Any

import pytest

from storage import audit, settings
from storage.engine import Database, open_database


def test_a_key_that_nobody_set_has_the_default(db: Database) -> None:
    assert settings.get_setting(db, "rating.guidelines") is None
    assert settings.get_setting(db, "rating.guidelines", "look twice") == "look twice"


@pytest.mark.parametrize(
    "value", ["", 0, 0.15, False, {"share": 0.15, "raters": 3}, ["best", "stars"], "評価"]
)
def test_a_value_is_read_as_it_was_set_by_another_process_too(db: Database, value: Any) -> None:
    settings.put_setting(db, "key", value)
    again = open_database(db.home)
    try:
        found = settings.get_setting(again, "key", "default")
    finally:
        again.close()
    assert found == value and type(found) is type(value)


def test_the_last_one_to_set_a_key_holds_and_other_keys_stay(db: Database) -> None:
    settings.put_setting(db, "one", 1)
    settings.put_setting(db, "other", 2)
    settings.put_setting(db, "one", 3)
    assert (settings.get_setting(db, "one"), settings.get_setting(db, "other")) == (3, 2)


def test_every_change_is_noted_with_what_was_set(db: Database) -> None:
    settings.put_setting(db, "one", 1)
    settings.put_setting(db, "one", 2)
    assert [(one.act, one.target, one.detail) for one in audit.latest(db)] == [
        ("setting", "one", {"value": 2}), ("setting", "one", {"value": 1}),
    ]  # fmt: skip


def test_a_value_that_no_database_can_hold_changes_nothing(db: Database) -> None:
    settings.put_setting(db, "one", 1)
    with pytest.raises(ValueError, match="finite JSON"):
        settings.put_setting(db, "one", float("nan"))
    assert settings.get_setting(db, "one") == 1 and len(audit.latest(db)) == 1

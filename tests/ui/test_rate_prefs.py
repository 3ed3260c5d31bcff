"""What a person sets for their own card: kept with them, and refused with a sentence where it cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from storage import rating_rules, users
from storage.engine import Database
from storage.rating_rules import Rules
from ui import rate_prefs
from ui.components.desk import parts_of
from ui.forms import Refused
from ui.language import speak, t
from ui.pages.rate import preferred
from ui.services import Services


def chosen(db: Database, rules: Rules | None = None) -> rate_prefs.Preferences:
    return rate_prefs.of(users.get_user(db, "local"), rules or rating_rules.get_rules(db))


def choose(db: Database, what: str, value: Any) -> rate_prefs.Preferences:
    rate_prefs.choose(db, users.get_user(db, "local"), what, value, rating_rules.get_rules(db))
    return chosen(db)


def test_the_keys_it_comes_with_never_meet() -> None:
    assert len(set(rate_prefs.KEYS.values())) == len(rate_prefs.KEYS)
    assert not set(rate_prefs.KEYS.values()) & set(rate_prefs.TAKEN)


def test_a_key_is_kept_and_all_can_be_set_back(db: Database) -> None:
    assert choose(db, "key", {"act": "skip", "key": "x"}).keys["skip"] == "x"
    assert choose(db, "key", {"act": "flags", "key": "s"}).keys["flags"] == "s"  # now free
    assert choose(db, "keys", True).keys == dict(rate_prefs.KEYS)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"act": "skip", "key": "u"}, "U is taken: undo"),
        ({"act": "skip", "key": "3"}, "3 is taken: choosing images"),
        ({"act": "skip", "key": "?"}, "is taken: the help"),
        ({"act": "skip", "key": "escape"}, "escape cannot be used here"),
        ({"act": "skip", "key": ""}, "cannot be used"),
        ({"act": "fly", "key": "x"}, "reload"),
        ("x", "reload"),
    ],
)
def test_a_key_that_means_something_else_is_refused(db: Database, value: Any, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence.replace("?", r"\?")):
        choose(db, "key", value)
    assert chosen(db).keys == dict(rate_prefs.KEYS)


def test_ways_to_judge_follow_the_studio_until_a_person_chooses(db: Database) -> None:
    rating_rules.put_rule(db, rating_rules.OFFERED_MODES, ["pair", "stars"])
    assert (chosen(db).modes, chosen(db).mode) == (["pair", "stars"], "pair")
    assert choose(db, "modes", ["stars", "best"]).modes == ["best", "stars"]
    assert choose(db, "mode", "stars").mode == "stars"
    assert choose(db, "modes", ["best"]).mode == "best"
    with pytest.raises(Refused, match="at least one way"):
        choose(db, "modes", [])


def test_guidelines_open_again_when_they_change(db: Database) -> None:
    assert not chosen(db).has_read
    assert choose(db, "read", True).has_read
    rating_rules.put_rule(db, rating_rules.GUIDELINES, "Look at the hands.")
    assert not chosen(db).has_read


def test_a_refused_choice_is_told_on_the_desk(services: Services, db: Database) -> None:
    person = users.get_user(db, "local")
    _, html = preferred(services, person, 1, "key", {"act": "skip", "key": "u"})
    assert "U is taken: undo. Choose another key." in html
    _, html = preferred(services, person, 2, "single", False)
    assert "is taken" not in html and not chosen(db).single


def test_guidelines_are_paragraphs_and_lists_whatever_stands_in_them() -> None:
    assert parts_of("Read.\n\n- one\n- two\n\nThen <b>act</b>.") == [
        ("text", ["Read."]),
        ("list", ["one", "two"]),
        ("text", ["Then <b>act</b>."]),
    ]


def test_every_act_has_a_name_in_each_language() -> None:
    try:
        for language in ("en", "ja"):
            speak(language)
            assert all(t(f"rate.act_{act}") for act in rate_prefs.KEYS)
    finally:
        speak("en")

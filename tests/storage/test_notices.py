"""What somebody accepted is kept by name and text, and a damaged file accepts nothing."""

from __future__ import annotations

import json
import threading

import pytest

from storage import notices
from storage.engine import Database

FIRST, SECOND = "a" * 64, "b" * 64


def test_what_was_accepted_is_kept_with_the_time_and_the_text(db: Database) -> None:
    assert notices.accepted_notices(db.home) == {}
    notices.accept_notice(db.home, "pickscore", FIRST)
    notices.accept_notice(db.home, "warmth", SECOND)
    assert notices.accepted_notices(db.home) == {"pickscore": FIRST, "warmth": SECOND}
    assert json.loads(notices.file_of(db.home).read_text())["warmth"]["when"].endswith("+00:00")
    assert not list((db.home / "tmp").iterdir())


def test_a_notice_that_says_something_else_waits_again(db: Database) -> None:
    notices.accept_notice(db.home, "warmth", FIRST)
    accepted = notices.accepted_notices(db.home)
    card = {"name": "warmth", "notice": "Not for sale.", "notice_sha256": FIRST}
    assert notices.is_accepted(card, accepted)
    assert notices.is_accepted(card | {"name": "warmth:gain=2"}, accepted)
    assert not notices.is_accepted(card | {"notice_sha256": SECOND}, accepted)
    assert not notices.is_accepted({"name": "warmth", "notice": "of an older engine"}, accepted)
    assert notices.is_accepted({"name": "clip", "notice": ""}, {})


@pytest.mark.parametrize("damaged", ["{", "[]", '{"pickscore": "yes"}', '{"pickscore": {}}'])
def test_a_damaged_file_accepts_nothing_and_can_be_written_anew(db: Database, damaged: str) -> None:
    notices.file_of(db.home).write_text(damaged)
    assert notices.accepted_notices(db.home) == {}
    notices.accept_notice(db.home, "warmth", FIRST)
    assert notices.accepted_notices(db.home) == {"warmth": FIRST}


def test_people_who_accept_at_once_lose_nothing(db: Database) -> None:
    names = [f"reward{number}" for number in range(8)]
    threads = [threading.Thread(target=notices.accept_notice, args=(db.home, name, FIRST)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(notices.accepted_notices(db.home)) == set(names)


def test_what_is_no_hash_is_refused(db: Database) -> None:
    with pytest.raises(ValueError, match="expected the SHA-256 of a notice"):
        notices.accept_notice(db.home, "warmth", "yes")
    assert not notices.file_of(db.home).exists()

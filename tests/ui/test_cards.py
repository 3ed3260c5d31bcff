"""The web shows what the engine said of its rewards, and what people have accepted since."""

from __future__ import annotations

from typing import Any

import pytest

from storage import scores
from storage.engine import Database
from ui import cards
from ui.forms import Refused

SHA = "a" * 64


@pytest.fixture(autouse=True)
def _published(db: Database) -> None:
    notice: dict[str, Any] = {"name": "pickscore", "notice": "No licence.", "notice_sha256": SHA}
    plain: dict[str, Any] = {"name": "clip", "notice": "", "notice_sha256": ""}
    scores.publish_cards(db, {"pickscore": notice | {"accepted": False}, "clip": plain | {"accepted": True}})


def accepted(db: Database) -> dict[str, bool]:
    return {name: card["accepted"] for name, card in cards.reward_cards(db).items()}


def test_a_notice_is_accepted_from_the_moment_that_somebody_does(db: Database) -> None:
    assert accepted(db) == {"clip": True, "pickscore": False}
    assert cards.accept(db, "pickscore", SHA)["accepted"]
    assert accepted(db) == {"clip": True, "pickscore": True}


@pytest.mark.parametrize(
    ("name", "sha", "words"),
    [
        ("beauty", SHA, "no reward “beauty”"),
        ("clip", SHA, "nothing to accept"),
        ("pickscore", "b" * 64, "read it"),
    ],
)
def test_what_nobody_read_cannot_be_accepted(db: Database, name: str, sha: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        cards.accept(db, name, sha)
    assert not accepted(db)["pickscore"]

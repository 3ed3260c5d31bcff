"""Pairs, rankings and flags: kept like stars, replaced by their own kind alone, and refused in words."""

from __future__ import annotations

from typing import Any

import pytest

from storage import snapshots
from storage.engine import Database
from storage.groups import GroupView
from storage.models import Checkpoint, RatingKind
from storage.ratings import RatingInput, current_ratings, rate, submit, undo
from storage.ratings_current import RatingsView
from tests.storage.records import finished_group


@pytest.fixture
def four(db: Database, base: Checkpoint) -> GroupView:
    return finished_group(db, base, num_images=4)


def ids(group: GroupView) -> list[str]:
    return [image.image.id for image in group.images]


def said(
    group: GroupView, kind: RatingKind, key: str, image: str | None = None, **payload: Any
) -> RatingInput:
    return RatingInput(key, "local", group.group.id, kind, image, payload=payload)


def test_of_two_images_the_last_word_counts_whichever_was_left(db: Database, four: GroupView) -> None:
    a, b, c, _ = ids(four)
    first = rate(db, said(four, "pair", "1", left=a, right=b, outcome="left"))
    rate(db, said(four, "pair", "2", left=a, right=c, outcome="bad"))
    second = rate(db, said(four, "pair", "3", left=b, right=a, outcome="tie"))
    assert second.supersedes_id == first.id
    assert current_ratings(db, four.group.id).pairs == {(a, c): "bad", (b, a): "tie"}
    undo(db, "local", "u")
    assert current_ratings(db, four.group.id).pairs == {(a, b): "left", (a, c): "bad"}


def test_a_ranking_may_leave_images_out_and_have_ties(db: Database, four: GroupView) -> None:
    a, b, c, d = ids(four)
    rate(db, said(four, "rank", "1", order=[[a], [b, c]]))
    again = rate(db, said(four, "rank", "2", order=((d,), (a, c))))
    assert again.supersedes_id is not None
    assert current_ratings(db, four.group.id).order == [[d], [a, c]]
    assert rate(db, said(four, "rank", "2", order=[[d], [a, c]])).id == again.id


def test_flags_stand_beside_what_else_is_said_until_they_are_taken_back(
    db: Database, four: GroupView
) -> None:
    a, b, *_ = ids(four)
    rate(db, said(four, "best", "1", b))
    rate(db, said(four, "flags", "2", a, flags=["broken", "other"], note="six fingers"))
    rate(db, said(four, "flags", "3", flags=["unsafe"]))
    expected = RatingsView(best=b, flags={a: ["broken", "other"], None: ["unsafe"]}, notes={a: "six fingers"})
    assert current_ratings(db, four.group.id) == expected
    rate(db, said(four, "flags", "4", a, flags=[]))
    assert current_ratings(db, four.group.id) == RatingsView(best=b, flags={None: ["unsafe"]})
    with pytest.raises(ValueError, match="there are none: name at least one"):
        rate(db, said(four, "flags", "5", b, flags=[]))


def test_a_group_of_which_everything_was_taken_back_was_not_rated(db: Database, four: GroupView) -> None:
    rate(db, said(four, "flags", "1", flags=["broken"]))
    rate(db, said(four, "flags", "2", flags=[]))
    with pytest.raises(ValueError, match="nothing was rated"):
        submit(db, "local", four.group.id, [])


def test_a_key_stands_for_one_payload(db: Database, four: GroupView) -> None:
    a, b, *_ = ids(four)
    rate(db, said(four, "pair", "1", left=a, right=b, outcome="left"))
    with pytest.raises(ValueError, match="make a new key for each click"):
        rate(db, said(four, "pair", "1", left=a, right=b, outcome="right"))


@pytest.mark.parametrize(
    ("kind", "payload", "sentence"),
    [
        ("pair", {}, "two different images"),
        ("pair", {"left": "a", "right": "a", "outcome": "tie"}, "two different images"),
        ("pair", {"left": "a", "right": 7, "outcome": "tie"}, "two different images"),
        ("pair", {"left": "a", "right": "b", "outcome": "both"}, "left, right, tie or bad"),
        ("pair", {"left": "a", "right": "b", "outcome": "tie", "why": "?"}, "got why as well"),
        ("rank", {}, "at least two images"),
        ("rank", {"order": ["a", "b"]}, "at least two images"),
        ("rank", {"order": [["a"]]}, "at least two images"),
        ("rank", {"order": [["a"], []]}, "at least two images"),
        ("rank", {"order": [["a"], [3]]}, "at least two images"),
        ("rank", {"order": [["a"], ["b", "a"]]}, "twice in the order"),
        ("flags", {}, "broken, wrong_prompt, unsafe or other"),
        ("flags", {"flags": "broken"}, "broken, wrong_prompt, unsafe or other"),
        ("flags", {"flags": ["ugly"]}, "broken, wrong_prompt, unsafe or other"),
        ("flags", {"flags": [["broken"]]}, "broken, wrong_prompt, unsafe or other"),
        ("flags", {"flags": ["broken", "broken"]}, "each once"),
        ("flags", {"flags": ["other"], "note": "n" * 501}, "at most 500"),
        ("flags", {"flags": ["other"], "note": 5}, "at most 500"),
        ("flags", {"flags": [], "note": "hm"}, "stands with a flag"),
        ("best", {"repeat": True}, "without 'repeat'"),
        ("pair", {"left": "a", "right": "b", "outcome": "tie"}, "no image with the id"),
        ("rank", {"order": [["a"], ["b"]]}, "no image with the id"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_words(
    db: Database, four: GroupView, kind: RatingKind, payload: dict[str, Any], sentence: str
) -> None:
    image = ids(four)[0] if kind == "best" else None
    with pytest.raises((ValueError, LookupError), match=sentence):
        rate(db, RatingInput("k", "local", four.group.id, kind, image, payload=payload))
    assert snapshots.num_votes(db) == 0


def test_images_of_another_group_are_refused(db: Database, four: GroupView, group: GroupView) -> None:
    mine, foreign = ids(four)[0], ids(group)[0]
    wrong = (
        said(four, "pair", "1", left=mine, right=foreign, outcome="left"),
        said(four, "rank", "2", order=[[mine], [foreign]]),
        said(four, "flags", "3", foreign, flags=["broken"]),
    )
    for rating in wrong:
        with pytest.raises(ValueError, match="not in this group"):
            rate(db, rating)
    with pytest.raises(ValueError, match="needs no image"):
        rate(db, said(four, "pair", "4", mine, left=mine, right=ids(four)[1], outcome="left"))

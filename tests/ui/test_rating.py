"""An answer counts once, is one act, and the card hides what could sway the one who judges."""

from __future__ import annotations

import uuid

import pytest

from storage import ratings
from storage.engine import Database
from storage.groups import GroupView
from tests.ui.conftest import MakeGroup
from ui import rating, rating_card
from ui.forms import Refused
from ui.rating import Answer
from ui.rating_card import Card
from ui.services import LOCAL_USER


def answer(
    view: GroupView, best: int | None = 0, stars: dict[int, int] | None = None, key: str = ""
) -> Answer:
    ids = [image.image.id for image in view.images]
    given = {ids[index]: value for index, value in (stars or {}).items()}
    return rating.read_answer(
        view.group.id, key or str(uuid.uuid4()), None if best is None else ids[best], given, 900
    )


def test_an_answer_is_kept_and_the_next_group_comes(db: Database, make_group: MakeGroup) -> None:
    first, second = make_group(), make_group()
    shown = ratings.next_task(db, LOCAL_USER)
    assert shown is not None
    following = rating.submit(db, LOCAL_USER, answer(shown, best=1, stars={0: 2, 1: 5}))
    assert following is not None
    assert {shown.group.id, following.group.id} == {first.group.id, second.group.id}
    said = ratings.current_ratings(db, shown.group.id, LOCAL_USER)
    assert said.best == shown.images[1].image.id
    assert sorted(said.stars.values()) == [2, 5]


def test_the_same_answer_twice_counts_once(db: Database, make_group: MakeGroup) -> None:
    said = answer(make_group(), key="k" * 36)
    rating.submit(db, LOCAL_USER, said)
    rating.submit(db, LOCAL_USER, said)
    assert ratings.progress(db, LOCAL_USER).rated == 1


def test_undo_brings_the_group_back_with_what_was_chosen(db: Database, make_group: MakeGroup) -> None:
    view = make_group()
    rating.submit(db, LOCAL_USER, answer(view, best=1, stars={0: 3}))
    undone = rating_card.undo(db, LOCAL_USER, "u" * 36)
    assert undone is not None and undone.view is not None
    assert undone.view.group.id == view.group.id
    assert (undone.said.best, list(undone.said.stars.values())) == (view.images[1].image.id, [3])
    assert ratings.progress(db, LOCAL_USER).rated == 0
    assert rating_card.undo(db, LOCAL_USER, "v" * 36) is None


def test_a_skipped_group_does_not_come_again(db: Database, make_group: MakeGroup) -> None:
    view = make_group()
    assert rating.skip(db, LOCAL_USER, answer(view, best=None)) is None
    assert ratings.next_task(db, LOCAL_USER) is None
    assert ratings.progress(db, LOCAL_USER).skipped == 1


def test_an_empty_answer_is_refused(db: Database, make_group: MakeGroup) -> None:
    with pytest.raises(Refused, match="Nothing was rated"):
        rating.submit(db, LOCAL_USER, answer(make_group(), best=None))


@pytest.mark.parametrize(
    "stars", [{"a": 6}, {"a": 0}, {"a": 3.5}, {"a": "5"}, {"a": True}, [1], None, "five"]
)
def test_stars_that_are_none_are_refused(stars: object) -> None:
    with pytest.raises(Refused):
        rating.read_answer("group", "k" * 36, None, stars, None)


@pytest.mark.parametrize("key", ["", "short", "k" * 49, 7, None])
def test_an_answer_needs_a_key(key: object) -> None:
    with pytest.raises(Refused):
        rating.read_answer("group", key, None, {}, None)


def test_an_image_of_another_group_is_refused(db: Database, make_group: MakeGroup) -> None:
    one, other = make_group(), make_group()
    foreign = rating.read_answer(one.group.id, "k" * 36, other.images[0].image.id, {}, None)
    with pytest.raises(ValueError, match="not in this group"):
        rating.submit(db, LOCAL_USER, foreign)


def test_the_page_opens_with_the_group_of_its_address(db: Database, make_group: MakeGroup) -> None:
    wanted, newer = make_group(), make_group()
    opened = rating_card.start(db, LOCAL_USER, wanted.group.id)
    assert opened.view is not None and opened.view.group.id == wanted.group.id and opened.notice == ""
    assert rating_card.upcoming(db, LOCAL_USER, wanted.group.id) == [image.image.id for image in newer.images]


def test_a_group_that_was_judged_opens_with_its_vote_which_may_be_changed(
    db: Database, make_group: MakeGroup
) -> None:
    view = make_group([0.1, 0.2, 0.3])
    ids = [image.image.id for image in view.images]
    rating.submit(db, LOCAL_USER, answer(view, best=1, stars={0: 2, 2: 5}))
    opened = rating_card.start(db, LOCAL_USER, view.group.id)
    assert opened.is_judged and (opened.said.best, opened.said.stars) == (ids[1], {ids[0]: 2, ids[2]: 5})
    html = rating_card.card_html(opened, ratings.progress(db, LOCAL_USER), turn="1")
    assert "You rated this group before" in html
    rating.submit(db, LOCAL_USER, answer(view, best=2, stars={0: 3}))
    said = ratings.current_ratings(db, view.group.id, LOCAL_USER)
    assert (said.best, said.stars) == (ids[2], {ids[0]: 3, ids[2]: 5})
    assert ratings.progress(db, LOCAL_USER).rated == 1


def test_a_group_that_was_skipped_opens_again_and_can_be_rated(db: Database, make_group: MakeGroup) -> None:
    view = make_group()
    rating.skip(db, LOCAL_USER, answer(view, best=None))
    assert "You skipped this group" in rating_card.start(db, LOCAL_USER, view.group.id).notice
    rating.submit(db, LOCAL_USER, answer(view))
    assert (ratings.progress(db, LOCAL_USER).rated, ratings.progress(db, LOCAL_USER).skipped) == (1, 0)


def test_a_group_that_cannot_be_rated_is_named_and_another_is_shown(
    db: Database, make_group: MakeGroup
) -> None:
    other, shown = make_group(kind="demo"), make_group()
    named = {other.group.id: f"Group {other.group.seq} is not offered", "gone": "not in this studio"}
    for wanted, words in named.items():
        opened = rating_card.start(db, LOCAL_USER, wanted)
        assert opened.view is not None and opened.view.group.id == shown.group.id
        assert words in opened.notice


def test_the_card_shows_neither_scores_nor_checkpoint(db: Database, make_group: MakeGroup) -> None:
    view = make_group([0.123456, 0.98765], prompt="<b>portrait</b>")
    html = rating_card.card_html(Card(view), ratings.progress(db, LOCAL_USER), turn="1")
    assert "starter" not in html and "0.12" not in html and "<b>portrait" not in html
    assert "0 / 1 · 1 left in this batch" in html


def test_an_empty_card_is_honest(db: Database) -> None:
    html = rating_card.card_html(Card(None), ratings.progress(db, LOCAL_USER), turn="1")
    assert "Nothing to rate right now" in html


def test_pairs_rankings_and_flags_are_kept_with_the_answer_they_came_with(
    db: Database, make_group: MakeGroup
) -> None:
    view = make_group([0.1, 0.2, 0.3])
    a, b, c = (image.image.id for image in view.images)
    said = rating.read_answer(
        view.group.id, "k" * 36, a, {}, None, pair={"left": a, "right": b, "outcome": "left"},
        rank=[a, [b, c]], flags={c: ["broken"], "": {"flags": ["other"], "note": "all alike"}},
    )  # fmt: skip
    for _ in range(2):
        rating.submit(db, LOCAL_USER, said)
    found = ratings.current_ratings(db, view.group.id, LOCAL_USER)
    assert (found.best, found.pairs, found.order) == (a, {(a, b): "left"}, [[a], [b, c]])
    assert (found.flags, found.notes) == ({c: ["broken"], None: ["other"]}, {None: "all alike"})
    rating_card.undo(db, LOCAL_USER, "u" * 36)
    assert ratings.current_ratings(db, view.group.id, LOCAL_USER).says_nothing()


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"pair": ["a", "b"]}, "A pair is"),
        ({"rank": "ab"}, "A ranking is"),
        ({"rank": 3}, "A ranking is"),
        ({"flags": ["broken"]}, "by image id"),
    ],
)
def test_pairs_rankings_and_flags_of_another_form_are_refused(said: dict[str, object], sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        rating.read_answer("group", "k" * 36, None, {}, None, **said)

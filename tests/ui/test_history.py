"""The history's search: its words in the address become filters, and what it shows is found again."""

from __future__ import annotations

import re

import pytest

from storage import boards, groups, ratings
from storage.engine import Database
from storage.models import Checkpoint
from storage.ratings import RatingInput
from tests.ui.conftest import MakeGroup
from ui import history
from ui.forms import Refused
from ui.history import Sought, sought

NASTY = "<img src=x onerror=alert(1)> ${alert(2)} {{7*7}}"


def found(db: Database, **fields: str) -> list[int]:
    """The numbers of the groups on the page."""
    html = history.history_html(db, sought(fields), ())
    return [int(number) for number in re.findall(r'<span class="note">(\d+)</span>', html)]


def test_every_filter_of_the_address_narrows_what_is_found(db: Database, make_group: MakeGroup) -> None:
    views = [make_group([0.1, value], prompt=f"portrait {n}") for n, value in enumerate((0.2, 0.6, 0.9))]
    image = views[1].images[0].image.id
    ratings.rate(db, RatingInput("a", "local", views[1].group.id, "stars", image, 4))
    board = boards.create_board(db, "mine", "local")
    boards.add_images(db, board.id, [views[2].images[0].image.id])
    day = views[0].group.created_at.date().isoformat()
    assert found(db) == [3, 2, 1]
    assert found(db, q="PORTRAIT 1") == [2]
    assert found(db, reward="verifier", min="0.5", max="0.8") == [2]
    assert found(db, rating="rated") == found(db, rating="stars4") == [2]
    assert found(db, rating="stars5") == found(db, flag="broken") == []
    assert found(db, board=board.id) == [3]
    assert found(db, to=day, **{"from": day}) == [3, 2, 1]
    assert found(db, to="2001-01-01") == []
    assert found(db, by=views[0].checkpoint.id, rating="unrated") == [3, 1]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"rating": "lovely"}, "The rating must be one of"),
        ({"flag": "ugly"}, "The flag must be one of"),
        ({"min": "much"}, "The lowest value must be a number"),
        ({"from": "tomorrow"}, "must be written as 2026-05-31"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_was_expected(fields: dict[str, str], said: str) -> None:
    with pytest.raises(Refused, match=said):
        history.filters_of(sought(fields))


def test_pages_follow_each_other_by_a_cursor(db: Database, make_group: MakeGroup) -> None:
    for _ in range(history.PER_PAGE + 2):
        make_group()
    assert found(db) == list(range(14, 2, -1))
    assert 'data-act="older" data-id="3"' in history.history_html(db, Sought(), ())
    assert found(db, before="3") == [2, 1]
    last = history.history_html(db, sought({"before": "3"}), ())
    assert 'data-act="newest"' in last and 'data-act="older"' not in last


def test_a_new_image_group_or_vote_is_news_and_nothing_else_is(db: Database, make_group: MakeGroup) -> None:
    view = make_group()
    before = history.stamp(db)
    assert history.stamp(db) == before
    ratings.rate(db, RatingInput("a", "local", view.group.id, "best", view.images[0].image.id))
    after = history.stamp(db)
    make_group()
    assert len({before, after, history.stamp(db)}) == 3


def test_people_s_words_are_escaped_in_the_list_and_in_the_form(db: Database, make_group: MakeGroup) -> None:
    make_group(prompt=NASTY)
    boards.create_board(db, NASTY, "local")
    for html in (
        history.history_html(db, Sought(), ()),
        history.search_html(db, sought({"q": NASTY, "board": NASTY})),
    ):
        assert "<img src=x" not in html and "&lt;img src=x" in html


def test_a_group_that_waits_is_in_the_history_with_its_state(db: Database, base: Checkpoint) -> None:
    config = {"num_steps": 8, "guidance_scale": 1.0, "width": 64, "height": 64, "negative_prompt": ""}
    groups.request_group(db, prompt="portrait", checkpoint_id=base.id, config=config, seeds=[1])
    assert "waiting" in history.history_html(db, Sought(), ())

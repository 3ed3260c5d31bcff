"""What the Rate page shows when the disk refuses, and when there is nothing to show."""

from __future__ import annotations

from storage import ratings
from storage.engine import Database
from tests.ui.conftest import Lock, MakeGroup
from ui.pages.rate import Seen, opened, ticked
from ui.services import LOCAL_USER, Services


def test_a_page_that_gets_no_lease_says_so_and_goes_on_when_it_gets_one(
    services: Services, db: Database, make_group: MakeGroup, locked: Lock
) -> None:
    wanted = make_group()
    with locked():
        state, html = opened(services, wanted.group.id)
        assert "Not saved: another process kept the database busy" in html
        assert "Every rating that was given is kept" in html and "Nothing to rate" not in html
        assert isinstance(ticked(services, state)[0], dict)  # nothing is redrawn while it stays so
    state, html = ticked(services, state)
    assert state.group_id == wanted.group.id and "Not saved" not in html


def test_an_empty_page_that_gets_no_lease_says_so_until_it_may_look_again(
    services: Services, locked: Lock
) -> None:
    state, html = opened(services, None)
    assert "Nothing to rate right now" in html
    with locked():
        state, html = ticked(services, state)
        assert "Not saved" in html
    state, html = ticked(services, state)
    assert "Nothing to rate right now" in html and not state.in_trouble


def test_a_tick_leaves_a_card_alone(services: Services, db: Database, make_group: MakeGroup) -> None:
    view = make_group()
    assert isinstance(ticked(services, Seen(view.group.id))[0], dict)
    assert ratings.progress(db, LOCAL_USER).open == 1

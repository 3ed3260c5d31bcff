"""What the Rate page shows when the disk refuses, and when there is nothing to show."""

from __future__ import annotations

from types import SimpleNamespace

from storage import ratings
from storage.engine import Database
from tests.ui.conftest import Lock, MakeGroup
from ui.pages.rate import Seen, answered, opened, ticked
from ui.services import LOCAL_USER, Services


def test_a_page_that_gets_no_lease_says_so_and_goes_on_when_it_gets_one(
    services: Services, db: Database, make_group: MakeGroup, locked: Lock
) -> None:
    wanted = make_group()
    with locked():
        state, html = opened(services, LOCAL_USER, wanted.group.id)
        assert "Not saved: another process kept the database busy" in html
        assert "Every rating that was given is kept" in html and "Nothing to rate" not in html
        assert isinstance(
            ticked(services, LOCAL_USER, state)[0], dict
        )  # nothing is redrawn while it stays so
    state, html = ticked(services, LOCAL_USER, state)
    assert state.group_id == wanted.group.id and "Not saved" not in html


def test_an_empty_page_that_gets_no_lease_says_so_until_it_may_look_again(
    services: Services, locked: Lock
) -> None:
    state, html = opened(services, LOCAL_USER, None)
    assert "Nothing to rate right now" in html
    with locked():
        state, html = ticked(services, LOCAL_USER, state)
        assert "Not saved" in html
    state, html = ticked(services, LOCAL_USER, state)
    assert "Nothing to rate right now" in html and not state.in_trouble


def test_skipping_a_group_that_was_judged_leaves_its_vote(
    services: Services, db: Database, make_group: MakeGroup
) -> None:
    view = make_group()
    best = view.images[0].image.id
    vote = SimpleNamespace(group=view.group.id, key="k" * 36, best=best, stars={}, lead_ms=1)
    state, _ = answered(services, LOCAL_USER, opened(services, LOCAL_USER, view.group.id)[0], "submit", vote)
    state, html = opened(services, LOCAL_USER, view.group.id)
    assert state.is_judged and "You rated this group before" in html
    state, html = answered(services, LOCAL_USER, state, "skip", vote)
    assert "left as it was" in html and state.group_id is None
    assert ratings.current_ratings(db, view.group.id).best == best
    assert ratings.progress(db, LOCAL_USER).skipped == 0


def test_a_second_vote_that_is_undone_leaves_the_first_and_a_skip_does_not_touch_it(
    services: Services, db: Database, make_group: MakeGroup
) -> None:
    view = make_group()
    first, second = (image.image.id for image in view.images[:2])

    def said(key: str, best: str) -> SimpleNamespace:
        return SimpleNamespace(group=view.group.id, key=key * 36, best=best, stars={}, lead_ms=1)

    answered(services, LOCAL_USER, opened(services, LOCAL_USER, view.group.id)[0], "submit", said("a", first))
    state, _ = answered(
        services, LOCAL_USER, opened(services, LOCAL_USER, view.group.id)[0], "submit", said("b", second)
    )
    state, html = answered(services, LOCAL_USER, state, "undo", said("c", second))
    assert state.is_judged and "You rated this group before" in html
    answered(services, LOCAL_USER, state, "skip", said("d", second))
    assert ratings.current_ratings(db, view.group.id).best == first
    assert ratings.progress(db, LOCAL_USER).skipped == 0


def test_a_tick_leaves_a_card_alone(services: Services, db: Database, make_group: MakeGroup) -> None:
    view = make_group()
    assert isinstance(ticked(services, LOCAL_USER, Seen(view.group.id))[0], dict)
    assert ratings.progress(db, LOCAL_USER).open == 1

"""The rating card under real keys and clicks: what the database holds is what was meant, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import APIResponse, Page, Route, expect
from sqlalchemy import select

from storage import checkpoints, ratings
from storage.engine import Database, open_database
from storage.groups import GroupView
from storage.models import RatingEvent
from tests.storage.ready import ready
from tests.ui.conftest import finished_group
from tests.ui.serving import GRADIO_NOISE, web

Said = tuple[str, int, int | None, int | None]
"""Kind, number of the group, index of the image, value."""

pytestmark = GRADIO_NOISE


@dataclass(frozen=True)
class Rating:
    """The Rate page on a data folder of its own, with three groups; the newest comes first."""

    db: Database
    page: Page
    groups: list[GroupView]

    def said(self) -> list[Said]:
        """Everything that was ever said, in order."""
        index = {one.image.id: one.image.index for view in self.groups for one in view.images}
        number = {view.group.id: place for place, view in enumerate(self.groups)}
        with self.db.read() as session:
            events = session.scalars(select(RatingEvent).order_by(RatingEvent.seq)).all()
        return [(one.kind, number[one.group_id], index.get(one.image_id or ""), one.value) for one in events]

    def shows(self, number: int) -> None:
        """Waits for the card of a group."""
        card = self.page.locator(".card[data-task]")
        expect(card).to_have_attribute("data-task", self.groups[number].group.id)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def star(self, image: int, value: int) -> None:
        """Clicks a star."""
        self.page.locator(".choice").nth(image).locator(f"[data-star='{value}']").click()


@pytest.fixture
def rate(page: Page, tmp_path: Path) -> Iterator[Rating]:
    db = open_database(ready(tmp_path / "home"))
    base = checkpoints.register_base(db, name="starter", source="nowhere", family="StableDiffusionXLPipeline")
    newest_first = [finished_group(db, [0.1, 0.2, 0.3, 0.4], checkpoint=base) for _ in range(3)][::-1]
    with web(db) as url:
        page.goto(f"{url}/rate")
        shown = Rating(db, page, newest_first)
        shown.shows(0)
        yield shown
        page.goto("about:blank")
    db.close()


def test_enter_saves_the_star_that_was_clicked_last(rate: Rating) -> None:
    rate.press("m", "m")
    rate.star(0, 4)
    rate.star(2, 2)
    rate.press("Enter")
    rate.shows(1)
    assert sorted(rate.said()) == [("stars", 0, 0, 4), ("stars", 0, 2, 2)]


def test_stars_by_keyboard_are_kept_and_the_same_key_again_takes_one_back(rate: Rating) -> None:
    rate.press("m", "m", "3", "ArrowRight", "5", "ArrowRight", "1", "1", "Enter")
    rate.shows(1)
    assert sorted(rate.said()) == [("stars", 0, 0, 3), ("stars", 0, 1, 5)]


def test_a_focused_star_is_pressed_with_space_and_saved_with_enter(rate: Rating) -> None:
    rate.press("m", "m")
    rate.page.locator(".choice").nth(1).locator("[data-star='3']").focus()
    rate.press("Space", "Enter")
    rate.shows(1)
    assert rate.said() == [("stars", 0, 1, 3)]


def test_a_focused_button_of_the_card_hears_enter_itself(rate: Rating) -> None:
    rate.press("2")
    rate.page.locator("[data-do=skip]").focus()
    rate.press("Enter", "Enter")
    rate.shows(1)
    assert rate.said() == [("skip", 0, None, None)]


def test_undo_opens_the_group_and_it_is_rated_again_at_once(rate: Rating) -> None:
    rate.press("2", "Enter")
    rate.shows(1)
    rate.press("u")
    rate.shows(0)
    expect(rate.page.locator(".choice.best")).to_have_count(1)
    rate.press("3", "Enter")
    rate.shows(1)
    assert rate.said() == [("best", 0, 1, None), ("undo", 0, None, None), ("best", 0, 2, None)]


def test_undo_with_nothing_to_undo_leaves_the_keys_working(rate: Rating) -> None:
    for _ in range(2):
        rate.press("u")
        expect(rate.page.locator(".saved")).to_have_text("nothing to undo")
    rate.press("1")
    expect(rate.page.locator(".saved")).to_have_text("")
    rate.press("Enter")
    rate.shows(1)
    assert rate.said() == [("best", 0, 0, None)]


def test_skip_straight_after_enter_does_not_skip_what_was_rated(rate: Rating) -> None:
    rate.press("2", "Enter", "s", "s")
    rate.shows(1)
    assert rate.said() == [("best", 0, 1, None)]
    rate.press("s", "s")
    rate.shows(2)
    assert rate.said() == [("best", 0, 1, None), ("skip", 1, None, None)]


def test_a_vote_is_changed_by_opening_its_group_again(rate: Rating) -> None:
    rate.press("2", "Enter")
    rate.shows(1)
    rate.page.goto(f"{rate.page.url}?group={rate.groups[0].group.id}")
    rate.shows(0)
    expect(rate.page.locator(".card")).to_contain_text("You rated this group before")
    expect(rate.page.locator(".choice").nth(1)).to_have_class("choice best")
    rate.press("4", "Enter")
    rate.shows(1)
    assert rate.said() == [("best", 0, 1, None), ("best", 0, 3, None)]
    assert ratings.progress(rate.db, "local").rated == 1


def test_a_vote_that_is_refused_can_be_given_again_at_once(rate: Rating) -> None:
    with rate.db.write() as session:
        group = session.merge(rate.groups[0].group)
        group.state = "failed"
    for _ in range(2):
        rate.press("2", "Enter")
        expect(rate.page.locator(".sentence")).to_contain_text("only finished groups can be rated")
        expect(rate.page.locator(".saved")).to_have_text("")
        rate.press("2")
    with rate.db.write() as session:
        group = session.merge(rate.groups[0].group)
        group.state = "done"
    rate.press("2", "Enter")
    rate.shows(1)
    assert rate.said() == [("best", 0, 1, None)]


def test_an_answer_that_is_late_may_be_asked_for_again_and_counts_once(rate: Rating) -> None:
    late: list[tuple[Route, APIResponse]] = []

    def hold(route: Route) -> None:
        if late:
            route.continue_()
        else:
            late.append((route, route.fetch()))

    rate.page.route("**/gradio_api/run/**", hold)
    rate.press("2", "Enter")
    expect(rate.page.locator(".saved")).to_have_text("Not saved yet. Enter tries again; it counts once.")
    rate.press("Enter")
    rate.shows(1)
    late[0][0].fulfill(response=late[0][1])
    expect(rate.page.locator(".card")).to_have_attribute("data-turn", "2")
    rate.press("3", "Enter")
    rate.shows(2)
    assert rate.said() == [("best", 0, 1, None), ("best", 1, 2, None)]

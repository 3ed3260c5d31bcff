"""The Team page in a browser: an admin and an annotator, by mouse, by keyboard and on a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from storage import checkpoints, checks, exclusion, ratings, settings, users
from storage.engine import Database, open_database
from storage.groups import GroupView
from storage.models import Checkpoint
from storage.ratings import RatingInput
from tests.storage.ready import ready
from tests.ui.conftest import finished_group
from tests.ui.serving import GRADIO_NOISE, web

pytestmark = GRADIO_NOISE


@dataclass(frozen=True)
class Site:
    """A studio without an engine."""

    db: Database
    url: str
    base: Checkpoint
    page: Page

    def go(self, tab: str = "people", **asked: str) -> None:
        """Opens a section and waits until it is there."""
        more = "".join(f"&{name}={value}" for name, value in asked.items())
        self.page.goto(f"{self.url}/team?tab={tab}{more}")
        self.shows(tab)

    def shows(self, tab: str) -> None:
        here = self.page.locator("#team-nav a[aria-current]")
        expect(here).to_have_attribute("href", f"/team?tab={tab}")

    def says(self, words: str) -> None:
        expect(self.page.locator("#team-message")).to_contain_text(words)

    def rated(self) -> GroupView:
        """A group that the local person rated."""
        view = finished_group(self.db, [0.1, 0.2, 0.3], checkpoint=self.base)
        best = view.images[1].image.id
        said = RatingInput(view.group.id, "local", view.group.id, "best", best, lead_ms=4000)
        ratings.rate(self.db, said)
        return view

    def is_narrow(self) -> None:
        """Nothing is wider than the screen."""
        wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert self.page.evaluate(wide) is False


@pytest.fixture
def site(page: Page, tmp_path: Path) -> Iterator[Site]:
    db = open_database(ready(tmp_path / "home"))
    base = checkpoints.register_base(db, name="starter", source="nowhere", family="StableDiffusionXLPipeline")
    with web(db) as url:
        yield Site(db, url, base, page)
        page.goto("about:blank")
    db.close()


def test_an_admin_adds_an_annotator_who_then_sits_here_and_can_change_nothing(site: Site) -> None:
    page = site.page
    site.go()
    page.get_by_label("Name", exact=True).fill("Ann")
    page.get_by_role("button", name="Add").click()
    site.says("Ann is here now, as annotator.")
    expect(page.locator("#team-body tbody tr")).to_have_count(2)
    page.get_by_label("Name", exact=True).fill("Ann")
    page.get_by_role("button", name="Add").click()
    site.says("There is a Ann already: choose another name.")
    expect(page.get_by_label("Name", exact=True)).to_have_value("Ann")  # nothing typed is lost
    page.locator(".who summary").click()
    page.locator(".who").get_by_role("button", name=re.compile("^Ann")).click()
    expect(page).to_have_url(f"{site.url}/rate")  # Team is not for an annotator
    expect(page.locator(".who summary")).to_have_text("Ann")


def test_the_overlap_is_told_while_it_is_typed_and_kept_once_it_is_saved(site: Site) -> None:
    for _ in range(4):
        finished_group(site.db, checkpoint=site.base)
    site.go("assignment")
    page = site.page
    page.get_by_label("Groups that several people rate").fill("100")
    page.get_by_label("Groups with a known answer").fill("0")
    page.get_by_label("Groups that come a second time").fill("0")
    preview = page.locator("#team-body .preview")
    expect(preview).to_contain_text(
        "If you save this: Open groups: 4. Ratings that they still want: about 12."
    )
    assert settings.get_setting(site.db, "rating.overlap") is None
    page.get_by_label("People for such a group").fill("2")
    expect(preview).to_contain_text("about 8.")
    page.get_by_role("button", name="Save").click()
    site.says("Saved.")
    assert settings.get_setting(site.db, "rating.overlap") == {"share": 1.0, "raters": 2}
    page.reload()
    expect(page.get_by_label("People for such a group")).to_have_value("2")
    expect(preview).not_to_contain_text("If you save this")


def test_a_rated_group_becomes_gold_and_is_taken_back(site: Site) -> None:
    view = site.rated()
    site.go("assignment")
    page = site.page
    page.get_by_role("link", name=f"Use group {view.group.seq}").click()
    expect(page).to_have_url(re.compile(f"group={view.group.id}"))
    expect(page.locator(".marking input:checked")).to_have_count(1)
    page.get_by_role("button", name="Save").click()
    site.says("It is a gold group now.")
    assert checks.list_checks(site.db)[0].item.accepted == [view.images[1].image.id]
    page.get_by_role("link", name="Done").click()
    page.get_by_role("button", name=f"Remove group {view.group.seq}").click()
    site.says("It is a group like any other again.")
    assert checks.list_checks(site.db) == []


def test_who_is_left_out_reads_why_on_the_page_where_they_rate(site: Site) -> None:
    ann = users.add_user(site.db, "Ann", "annotator")
    site.go()
    page = site.page
    page.get_by_role("link", name="Change Ann").click()
    page.get_by_label("Why their votes should not count").fill("picks the first image")
    page.get_by_role("button", name="Leave out their votes").click()
    site.says("are kept and do not count")
    assert exclusion.exclusions(site.db)[ann.id].why == "picks the first image"
    page.locator(".who summary").click()
    page.locator(".who").get_by_role("button", name=re.compile("^Ann")).click()
    page.goto(f"{site.url}/rate")
    expect(page.locator("#topbar [role=status]")).to_contain_text(
        "do not count at present: picks the first image"
    )


def test_sections_and_filters_stand_in_the_address_and_back_goes_back(site: Site) -> None:
    users.add_user(site.db, "Ann", "annotator")
    settings.put_setting(site.db, "rating.guidelines", "look")
    site.go()
    page = site.page
    page.locator("#team-nav").get_by_role("link", name="Log").click()
    site.shows("audit")
    expect(page.locator("#team-body tbody tr")).to_have_count(2)
    page.get_by_label("Did what").select_option("user.add")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#team-body tbody tr")).to_have_count(1)
    expect(page).to_have_url(re.compile("act=user.add"))
    page.reload()
    expect(page.locator("#team-body tbody tr")).to_have_count(1)
    expect(page.get_by_label("Did what")).to_have_value("user.add")
    page.go_back()
    expect(page.locator("#team-body tbody tr")).to_have_count(2)
    page.go_back()
    site.shows("people")


def test_the_menu_of_who_sits_here_is_worked_by_keyboard_and_closes_on_escape_and_outside(
    site: Site,
) -> None:
    for name in ("Ann", "Bea"):
        users.add_user(site.db, name, "annotator")
    site.go()
    page, menu = site.page, site.page.locator(".who")
    page.locator(".who summary").focus()
    page.keyboard.press("Enter")
    expect(menu).to_have_attribute("open", "")
    page.keyboard.press("ArrowDown")
    expect(menu.get_by_role("button", name=re.compile("^Ann"))).to_be_focused()
    page.keyboard.press("Tab")
    expect(menu.get_by_role("button", name=re.compile("^Bea"))).to_be_focused()
    users.add_user(site.db, "Zoe", "viewer")  # the bar is drawn anew under the open menu
    expect(menu.get_by_role("button", name=re.compile("^Zoe"))).to_be_visible()
    expect(menu.get_by_role("button", name=re.compile("^Bea"))).to_be_focused()
    page.keyboard.press("Escape")
    expect(menu).not_to_have_attribute("open", "")
    expect(page.locator(".who summary")).to_be_focused()
    page.locator(".who summary").click()
    expect(menu).to_have_attribute("open", "")
    page.locator("#team-page .title").click()
    expect(menu).not_to_have_attribute("open", "")
    page.locator(".who summary").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator(".who summary")).to_have_text("Ann")


def test_the_question_mark_shows_the_keys_and_not_while_somebody_types(site: Site) -> None:
    site.go()
    page, keys = site.page, site.page.locator("dialog.help")
    page.get_by_label("Name", exact=True).press_sequentially("why?")
    expect(page.get_by_label("Name", exact=True)).to_have_value("why?")
    expect(keys).to_be_hidden()
    page.locator("#team-page .title").click()
    page.keyboard.press("?")
    expect(keys).to_be_visible()
    expect(keys).to_contain_text("On every page")
    page.keyboard.press("Escape")
    expect(keys).to_be_hidden()
    page.locator("#topbar [data-act=keys]").focus()
    page.keyboard.press("Enter")
    expect(keys).to_be_visible()
    page.locator("dialog.help [data-close]").click()
    expect(keys).to_be_hidden()


def test_on_a_phone_no_section_is_wider_than_the_screen_and_the_menu_is_within_it(site: Site) -> None:
    site.rated()
    users.add_user(site.db, "Somebody with quite a long name indeed", "annotator")
    page = site.page
    page.set_viewport_size({"width": 390, "height": 844})
    site.go()
    site.is_narrow()
    for tab in ("assignment", "agreement", "quality", "audit", "storage"):
        page.locator(f"#team-nav a[href='/team?tab={tab}']").click()
        site.shows(tab)
        site.is_narrow()
    page.locator(".who summary").click()
    box = page.locator(".who .menu").bounding_box()
    assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 390
    page.locator(".who .menu").get_by_role("button", name="Somebody").click()
    expect(page.locator(".who summary")).to_contain_text("Somebody")

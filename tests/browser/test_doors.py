"""The pages before the studio, one's account, and the bar of who logged in: on a phone, in both shades."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Page, expect

from storage import accounts, checkpoints, exclusion, login_links, run_queue, sessions, users, workers
from storage.engine import Database, open_database
from storage.models import User
from tests.browser.test_axe import severe
from tests.storage.ready import ready
from tests.ui.conftest import finished_group
from tests.ui.serving import GRADIO_NOISE, web
from tests.ui.test_tuning import form
from ui import tuning
from ui.passwords import hashed
from ui.people import SESSION
from ui.services import Services

pytestmark = GRADIO_NOISE
PASSWORD = "four words of mine"
LONG = "Somebody with quite a long name indeed"
WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


@dataclass(frozen=True)
class Team:
    """A studio where people log in; no engine."""

    db: Database
    url: str
    ann: User
    waits: str
    """A run in the middle of the queue."""

    def enters(self, page: Page, user_id: str) -> None:
        """Logs a browser in."""
        secret = sessions.open_session(self.db, user_id, "Mozilla/5.0 (X11; Linux) Chrome/150")
        page.context.add_cookies([{"name": SESSION, "value": secret, "url": self.url}])


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    db = open_database(ready(tmp_path_factory.mktemp("doors") / "home"))
    base = checkpoints.register_base(db, name="starter", source="nowhere", family="StableDiffusionXLPipeline")
    finished_group(db, [0.1, 0.2, 0.5, 0.7], checkpoint=base)
    ann = users.add_user(db, "Ann", "annotator")
    for one in (users.LOCAL, ann.id):
        accounts.set_password(db, one, hashed(PASSWORD), users.LOCAL)
    exclusion.exclude(db, users.add_user(db, LONG, "annotator").id, "picks the first image")
    made = [tuning.start(Services(db), base.id, form(name=name)) for name in ("first", "second", "third")]
    assert run_queue.place_of(db, made[1].id) == (2, 3)
    with web(db) as url:
        yield Team(db, url, ann, made[1].id)
    db.close()


@pytest.fixture(params=["light", "dark"])
def phone(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=request.param)
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    yield opened
    context.close()


def looked_at(page: Page) -> list[str]:
    """What is wrong with a page that is open."""
    return [*(["wider than the screen"] if page.evaluate(WIDE) else []), *severe(page)]


def test_the_pages_before_the_studio_fit_a_phone_and_axe_finds_nothing(team: Team, phone: Page) -> None:
    found = {}
    phone.goto(f"{team.url}/login")
    phone.get_by_label("Name").fill("Ann")
    found["login"] = looked_at(phone)
    phone.get_by_label("Password").fill("a wrong guess")
    phone.get_by_label("Password").press("Enter")
    expect(phone.get_by_role("alert")).to_be_visible()
    found["wrong"] = looked_at(phone)
    phone.goto(f"{team.url}/setup#{login_links.make_link(team.db, team.ann.id, users.LOCAL)}")
    found["setup"] = looked_at(phone)
    team.enters(phone, team.ann.id)
    phone.goto(f"{team.url}/library")
    expect(phone.get_by_role("alert")).to_contain_text("cannot look at scores")
    found["closed"] = looked_at(phone)
    phone.goto(f"{team.url}/account")
    phone.get_by_label("What will use it").fill("a script with quite a long name that somebody typed")
    phone.get_by_label("What will use it").press("Enter")
    expect(phone.locator(".secret")).to_be_visible()
    found["account"] = looked_at(phone)
    assert {name: wrong for name, wrong in found.items() if wrong} == {}
    phone.get_by_role("link", name="To your work").click()
    expect(phone).to_have_url(f"{team.url}/rate")


def test_a_link_that_was_used_leads_to_the_login_instead_of_asking_for_a_password_in_vain(
    team: Team, phone: Page
) -> None:
    phone.goto(f"{team.url}/setup#{'x' * 43}")
    for label in ("New password", "Once more"):
        phone.get_by_label(label).fill(PASSWORD)
    phone.get_by_label("Once more").press("Enter")
    expect(phone.get_by_role("alert")).to_contain_text("ask an admin for another one")
    expect(phone.get_by_label("New password")).to_have_count(0)
    assert looked_at(phone) == []
    phone.get_by_role("link", name="Log in").click()
    expect(phone.get_by_role("button", name="Log in")).to_be_visible()


def test_pages_of_a_team_and_its_runs_fit_a_phone(team: Team, phone: Page) -> None:
    team.enters(phone, users.LOCAL)
    for path in ("/team?tab=people", "/team?tab=storage", "/team?tab=audit", f"/train?run={team.waits}"):
        phone.goto(team.url + path)
        expect(phone.locator(".topbar .who")).to_be_visible()
        expect(phone.locator("#team-page h1, #run .queue-place")).to_be_visible()
        phone.wait_for_timeout(500)  # what a load handler draws
        assert phone.evaluate(WIDE) is False, path
    sooner, later = (phone.get_by_role("button", name=name).bounding_box() for name in ("Sooner", "Later"))
    assert sooner is not None and later is not None and later["x"] - sooner["x"] - sooner["width"] >= 8


def test_what_is_said_beside_a_long_name_on_a_phone_is_a_tag_of_one_line(team: Team, phone: Page) -> None:
    team.enters(phone, users.LOCAL)
    phone.goto(f"{team.url}/team?tab=people")
    row = phone.locator("#team-body tbody tr", has_text=LONG)
    expect(row.locator(".tag")).to_have_count(2)
    heights = row.locator(".tag").evaluate_all(
        "tags => tags.map((tag) => tag.getBoundingClientRect().height)"
    )
    assert max(heights) < 24


def test_an_admin_gets_a_link_that_fits_a_phone_and_is_told_from_the_words_before_it(
    team: Team, phone: Page
) -> None:
    team.enters(phone, users.LOCAL)
    phone.goto(f"{team.url}/team?tab=people")
    phone.get_by_label(f"Change {LONG}").click()
    phone.get_by_role("button", name="Make a login link").click()
    expect(phone.locator("#team-message a[data-link]")).to_be_visible()
    assert looked_at(phone) == []


def test_the_own_account_is_in_reach_on_a_phone_and_the_bar_stays_where_it_was_pushed(
    team: Team, phone: Page
) -> None:
    team.enters(phone, users.LOCAL)
    phone.goto(f"{team.url}/team?tab=people")
    who = phone.locator(".topbar .who")
    expect(who).to_be_visible()
    phone.wait_for_timeout(4500)  # until the page looks for where it is no more
    bar = "document.querySelector('.topbar').scrollLeft"
    phone.evaluate(f"{bar} = 40")
    box = who.bounding_box()
    assert box is not None and box["x"] > 195 and box["x"] + box["width"] <= 390
    workers.worker_beat(team.db, worker_id="w", pid=1, state="idle", detail="drawn anew")
    expect(phone.locator(".topbar .pill").first).to_contain_text("drawn anew")
    assert phone.evaluate(bar) == 40
    who.locator("summary").click()
    phone.keyboard.press("ArrowDown")
    expect(who.get_by_role("link", name=re.compile("^Your account"))).to_be_focused()


def test_who_judges_blind_pairs_is_offered_their_account_and_no_names_of_others(
    team: Team, phone: Page
) -> None:
    team.enters(phone, team.ann.id)
    phone.goto(f"{team.url}/blind")
    phone.locator(".topbar .who summary").click()
    expect(phone.locator(".topbar .menu :is(a, button)")).to_have_text(
        [re.compile("^Your account"), "Log out"]
    )
    assert LONG not in phone.content()

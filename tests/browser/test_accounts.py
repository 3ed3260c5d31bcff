"""A team gets in: the first admin by the printed link, the others by theirs; each sees what a role may."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from storage import login_links, sessions, users
from storage.engine import Database, open_database
from tests.served import Served, served
from tests.storage.ready import ready

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(400)]
PASSWORD = "four words of mine"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("accounts") / "home"


@pytest.fixture(scope="module")
def db(home: Path) -> Iterator[Database]:
    opened = open_database(ready(home))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def team(db: Database, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(home, tmp_path_factory.mktemp("log") / "log.txt") as running:
        yield running


def at(browser: Browser) -> Page:
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.set_default_timeout(60_000)
    return page


def set_password(page: Page, name: str = "") -> None:
    if name:
        page.get_by_label("Your name here").fill(name)
    page.get_by_label("New password").fill(PASSWORD)
    page.get_by_label("Once more").fill(PASSWORD)
    page.get_by_label("Once more").press("Enter")


def user(db: Database, name: str) -> str:
    return next(one.id for one in users.list_users(db) if one.name == name)


def test_an_admin_sets_up_a_team_and_an_annotator_comes_in_by_a_link(
    team: Served, db: Database, browser: Browser
) -> None:
    admin = at(browser)
    admin.goto(f"{team.url}/setup#{login_links.make_link(db, users.LOCAL, users.LOCAL)}")
    set_password(admin, "Grace <b>")
    admin.wait_for_url(f"{team.url}/")
    expect(admin.locator(".topbar .who summary")).to_have_text("Grace <b>")
    admin.goto(f"{team.url}/team?tab=people")
    admin.locator("form[data-act=add] input[name=name]").fill("Ann")
    admin.locator("form[data-act=add]").get_by_role("button").click()
    expect(admin.locator("#team-message")).to_contain_text("Ann is here now, as annotator")
    admin.get_by_label("Change Ann").click()
    admin.get_by_role("button", name="Make a login link").click()
    link = admin.locator("#team-message a[data-link]")
    expect(link).to_contain_text(f"{team.url}/setup#")

    ann = at(browser)
    ann.goto(str(link.text_content()))
    set_password(ann)
    ann.wait_for_url(f"{team.url}/rate")
    expect(ann.locator(".topbar nav a")).to_have_text(["Rate", "Blind pairs"])
    ann.goto(f"{team.url}/library")
    expect(ann.get_by_role("alert")).to_contain_text("Your role (annotator) cannot look at scores")
    ann.get_by_role("link", name="To your work").click()
    expect(ann.locator("#rate-page")).to_be_visible()


def test_whose_session_ends_is_led_to_the_login_and_back(
    team: Served, db: Database, browser: Browser
) -> None:
    page = at(browser)
    page.goto(f"{team.url}/train?run=none")
    page.get_by_label("Name").fill("Grace <b>")
    page.get_by_label("Password").fill("a wrong guess")
    page.get_by_label("Password").press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("do not belong together")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("Password").press("Enter")
    page.wait_for_url(f"{team.url}/train?run=none")
    expect(page.locator("#start-run")).to_be_visible()
    sessions.revoke(db, user(db, "Grace <b>"))
    page.wait_for_url(f"{team.url}/login?back=*")  # the bar asks by itself every two seconds


def test_a_viewer_sees_pages_without_what_only_others_may_do(
    team: Served, db: Database, browser: Browser
) -> None:
    users.set_role(db, user(db, "Ann"), "viewer")
    page = at(browser)
    page.goto(team.url)
    page.get_by_label("Name").fill("Ann")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.locator(".topbar nav a")).to_have_text(["Studio", "Compare", "Train", "Library", "Team"])
    expect(page.locator("#canvas .empty")).to_be_visible()
    expect(page.locator("#generate")).to_be_hidden()
    page.goto(f"{team.url}/train")
    expect(page.locator("#canvas .empty")).to_be_visible()
    expect(page.locator("#start-run")).to_be_hidden()


def test_logging_out_ends_it(team: Served, browser: Browser) -> None:
    page = at(browser)
    page.goto(f"{team.url}/login")
    page.get_by_label("Name").fill("Grace <b>")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.locator(".topbar .who summary").click()
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url(f"{team.url}/login")
    page.goto(f"{team.url}/rate")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()

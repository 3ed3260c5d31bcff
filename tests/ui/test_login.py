"""The login page and the page of a link, and whoever tries to come in without them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from storage import accounts, login_links, sessions, users
from storage.engine import Database
from storage.models import User
from ui import security
from ui.account import account_routes
from ui.entrance import Entrance
from ui.login import login_routes
from ui.passwords import hashed
from ui.people import SECURE_SESSION, SESSION, people_routes, person_of

PASSWORD = "four words of mine"
HASH = hashed(PASSWORD)


def site(db: Database, public_url: str = "", *, demands_accounts: bool = False) -> TestClient:
    """The door with one path behind it, as the studio has it: no page of Gradio's is needed for this."""
    app = FastAPI()
    app.add_middleware(Entrance, db=db, demands_accounts=demands_accounts)
    security.protect(app, public_url)
    for routes in (login_routes, account_routes, people_routes):
        app.include_router(routes(db))

    @app.get("/rate")
    def rate(request: Request) -> str:
        return person_of(db, request).name

    return TestClient(app, base_url=public_url or "http://127.0.0.1", follow_redirects=False)


@pytest.fixture
def client(db: Database) -> Iterator[TestClient]:
    with site(db) as opened:
        yield opened


@pytest.fixture
def ada(db: Database) -> User:
    accounts.set_password(db, users.LOCAL, HASH, by=users.LOCAL)
    made = users.add_user(db, "Ada", "annotator")
    return accounts.set_password(db, made.id, HASH, by=users.LOCAL)


def log_in(client: TestClient, name: str = "Ada", password: str = PASSWORD, **more: str) -> int:
    return client.post("/login", data={"name": name, "password": password, **more}).status_code


def test_without_accounts_nobody_logs_in_on_this_machine(db: Database, client: TestClient) -> None:
    assert client.get("/rate").json() == users.get_user(db, users.LOCAL).name
    assert "Nobody has an account yet" in client.get("/login").text


def test_where_others_reach_it_the_studio_is_closed_until_the_first_account_is_made(db: Database) -> None:
    with site(db, "https://studio.example.org", demands_accounts=True) as client:
        assert client.get("/rate").status_code == 401
        secret = login_links.make_link(db, users.LOCAL, users.LOCAL)
        form = {"link": secret, "name": "Grace", "password": PASSWORD, "again": PASSWORD}
        made = client.post("/setup", data=form)
        assert (made.status_code, made.headers["location"]) == (303, "/")
        assert client.get("/rate").json() == "Grace"
        again = client.post("/setup", data=form)
        assert again.status_code == 400 and "ask an admin for another one" in again.text
        assert 'action="/setup"' not in again.text and 'href="/login"' in again.text


def test_who_logs_in_is_known_from_then_on_and_after_logging_out_no_more(
    client: TestClient, ada: User
) -> None:
    assert client.get("/rate").status_code == 401
    answer = client.post("/login", data={"name": " Ada ", "password": PASSWORD})
    assert (answer.status_code, answer.headers["location"]) == (303, "/rate")
    said = answer.headers["set-cookie"].lower()
    assert "httponly" in said and "samesite=lax" in said
    assert client.get("/rate").json() == "Ada"
    kept = dict(client.cookies)
    assert client.post("/logout").status_code == 303
    client.cookies.update(kept)
    assert client.get("/rate").status_code == 401


def test_over_https_a_cookie_that_another_host_can_have_set_logs_nobody_in(db: Database, ada: User) -> None:
    secret = sessions.open_session(db, ada.id, "a browser")
    with site(db, "https://studio.example.org", demands_accounts=True) as client:
        client.cookies.set(SESSION, secret)
        assert client.get("/account").status_code == 401
        client.cookies.set(SECURE_SESSION, secret)
        assert client.get("/account").status_code == 200


def test_over_https_the_cookie_is_the_hosts_own_and_the_browser_stays_with_https(
    db: Database, ada: User
) -> None:
    with site(db, "https://studio.example.org", demands_accounts=True) as client:
        answer = client.post("/login", data={"name": "Ada", "password": PASSWORD})
        assert answer.headers["set-cookie"].startswith(f"{SECURE_SESSION}=")
        assert "secure" in answer.headers["set-cookie"].lower()
        assert "max-age" in answer.headers["strict-transport-security"]
        assert client.get("/rate").json() == "Ada"


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("Ada", "not the password"),
        ("Ada", ""),
        ("Ada", "x" * 10_000),
        ("Ada", f"{PASSWORD}\x00"),
        ("ada", PASSWORD),
        ("Аda", PASSWORD),  # the first letter is Cyrillic
        ("' OR 1=1--", "' OR 1=1--"),
        ("\x00", PASSWORD),
        ("A" * 10_000, PASSWORD),
        ("", ""),
    ],
)
def test_a_wrong_guess_gets_one_sentence_whatever_was_wrong(
    client: TestClient, ada: User, name: str, password: str
) -> None:
    answer = client.post("/login", data={"name": name, "password": password})
    assert answer.status_code == 401
    assert "do not belong together" in answer.text
    assert "set-cookie" not in answer.headers


def test_a_hundred_wrong_guesses_let_five_through_and_say_how_long_to_wait(
    client: TestClient, ada: User
) -> None:
    codes = [log_in(client, password=f"guess number {number}") for number in range(100)]
    assert codes == [401] * 5 + [429] * 95
    answer = client.post("/login", data={"name": "Ada", "password": PASSWORD})
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 31
    assert log_in(client, "Grace") == 401


def test_a_login_gives_a_session_that_the_browser_did_not_choose(
    db: Database, client: TestClient, ada: User
) -> None:
    client.cookies.set(SESSION, "chosen-by-an-attacker")
    answer = client.post("/login", data={"name": "Ada", "password": PASSWORD})
    assert "chosen-by-an-attacker" not in answer.headers["set-cookie"]
    assert sessions.who(db, "chosen-by-an-attacker") is None


@pytest.mark.parametrize(
    "back", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:x"]
)
def test_the_way_back_is_never_elsewhere(client: TestClient, ada: User, back: str) -> None:
    answer = client.post("/login", data={"name": "Ada", "password": PASSWORD, "back": back})
    assert answer.headers["location"] == "/rate"


def test_a_browser_is_sent_to_the_login_and_back_to_what_it_asked_for(client: TestClient, ada: User) -> None:
    answer = client.get("/rate?group=7", headers={"accept": "text/html"})
    assert answer.headers["location"] == "/login?back=/rate%3Fgroup%3D7"
    page = client.get(answer.headers["location"])
    assert 'name="back" value="/rate?group=7"' in page.text
    assert log_in(client, back="/rate?group=7") == 303


def test_what_was_typed_is_shown_as_text(client: TestClient, ada: User) -> None:
    answer = client.post("/login", data={"name": "<script>alert(1)</script>", "password": "x"})
    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;alert" in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_who_is_not_active_does_not_come_in(db: Database, client: TestClient, ada: User) -> None:
    users.set_active(db, ada.id, False)
    assert log_in(client) == 401


def test_where_people_log_in_nobody_chooses_to_be_somebody_else(client: TestClient, ada: User) -> None:
    log_in(client)
    assert client.post("/person", data={"user": users.LOCAL}).status_code == 403
    client.cookies.set("studio-person", users.LOCAL)
    assert client.get("/rate").json() == "Ada"


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"origin": "http://127.0.0.1.evil.example"},
        {"origin": "http://127.0.0.1:1"},
    ],
)
@pytest.mark.parametrize("path", ["/login", "/logout", "/setup", "/account/password", "/account/tokens"])
def test_no_other_site_logs_in_or_out_or_changes_anything(
    client: TestClient, ada: User, path: str, headers: dict[str, str]
) -> None:
    log_in(client)
    assert client.post(path, data={"name": "Ada", "password": PASSWORD}, headers=headers).status_code == 403
    assert client.get("/rate").json() == "Ada"


def test_a_link_from_elsewhere_logs_nobody_out(client: TestClient, ada: User) -> None:
    log_in(client)
    assert client.get("/logout", headers={"origin": "https://evil.example"}).status_code == 403
    assert client.get("/logout").status_code == 405
    assert client.get("/rate").json() == "Ada"


@pytest.mark.parametrize("host", ["evil", "localhost.evil.com", "studio.example.org.evil", "10.0.0.1", ""])
def test_no_other_name_leads_here(db: Database, host: str) -> None:
    with site(db, "https://studio.example.org") as client:
        assert client.get("/login", headers={"host": host}).status_code == 400
        assert client.get("/login").status_code == 200
        assert client.get("/login", headers={"host": "127.0.0.1:7860"}).status_code == 200


def test_a_password_is_changed_by_who_knows_the_old_one(db: Database, client: TestClient, ada: User) -> None:
    log_in(client)
    other = sessions.open_session(db, ada.id)
    new = {"password": "another four words", "again": "another four words"}
    assert client.post("/account/password", data={"old": "wrong", **new}).status_code == 400
    assert client.post("/account/password", data={"old": PASSWORD, **new, "again": "x"}).status_code == 400
    short = {"old": PASSWORD, "password": "short", "again": "short"}
    assert "10 to 256" in client.post("/account/password", data=short).text
    assert client.post("/account/password", data={"old": PASSWORD, **new}).status_code == 200
    assert client.get("/rate").json() == "Ada"
    assert sessions.who(db, other) is None
    assert log_in(client) == 401
    assert log_in(client, password="another four words") == 303


def test_guessing_the_old_password_from_a_borrowed_browser_is_slowed_down_too(
    client: TestClient, ada: User
) -> None:
    log_in(client)
    new = {"password": "another four words", "again": "another four words"}
    for _ in range(5):
        client.post("/account/password", data={"old": "a guess", **new})
    assert "wait" in client.post("/account/password", data={"old": PASSWORD, **new}).text


def test_an_admin_without_a_password_makes_the_first_account_and_is_logged_in(
    db: Database, client: TestClient
) -> None:
    assert "everybody logs in" in client.get("/account").text
    new = {"password": "another four words", "again": "another four words"}
    assert client.post("/account/password", data=new).status_code == 200
    assert accounts.are_in_force(db)
    assert client.get("/rate").status_code == 200
    client.cookies.clear()
    assert client.get("/rate").status_code == 401


def test_a_token_is_shown_once_and_lets_a_script_in_until_it_is_revoked(
    client: TestClient, ada: User
) -> None:
    log_in(client)
    shown = re.search(r"fgs_[\w-]+", client.post("/account/tokens", data={"name": "my script"}).text)
    assert shown is not None
    page = client.get("/account").text
    assert "my script" in page and shown[0] not in page
    client.cookies.clear()
    headers = {"authorization": f"Bearer {shown[0]}"}
    assert client.get("/rate", headers=headers).json() == "Ada"
    token = re.search(r'name="token" value="([^"]+)"', client.get("/account", headers=headers).text)
    assert token is not None
    client.post("/account/tokens/revoke", data={"token": token[1]}, headers=headers)
    assert client.get("/rate", headers=headers).status_code == 401


def test_one_browser_is_logged_out_from_another(db: Database, client: TestClient, ada: User) -> None:
    other = sessions.open_session(db, ada.id, "Mozilla/5.0 (Windows NT 10.0) Firefox/140.0")
    log_in(client)
    page = client.get("/account").text
    assert "Firefox · Windows" in page and "this browser" in page
    found = re.search(r'name="session" value="([^"]+)"', page)
    assert found is not None
    client.post("/account/sessions", data={"session": found[1]})
    assert sessions.who(db, other) is None
    assert client.get("/rate").json() == "Ada"

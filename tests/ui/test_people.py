"""Who sits at a browser: a cookie remembers, strangers are refused, and the way back is never elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from storage import users
from storage.engine import Database
from ui.people import COOKIE, people_routes, person_of


@pytest.fixture
def client(db: Database) -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(people_routes(db))
    with TestClient(app, follow_redirects=False) as opened:
        yield opened


@pytest.fixture
def ann(db: Database) -> str:
    return users.add_user(db, "Ann", "artist").id


def asked(cookie: str | None) -> SimpleNamespace:
    return SimpleNamespace(cookies={} if cookie is None else {COOKIE: cookie})


def test_who_was_chosen_is_remembered_in_a_cookie_that_scripts_and_other_sites_do_not_get(
    db: Database, client: TestClient, ann: str
) -> None:
    answer = client.post("/person", data={"user": ann, "back": "/rate"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/rate")
    said = answer.headers["set-cookie"].lower()
    assert f"{COOKIE}={ann}" in said and "httponly" in said and "samesite=lax" in said
    assert person_of(db, asked(ann)).name == "Ann"


@pytest.mark.parametrize("cookie", [None, "", "nobody", "' OR 1=1"])
def test_a_browser_that_names_nobody_here_is_the_local_person(db: Database, cookie: str | None) -> None:
    assert person_of(db, asked(cookie)).id == users.LOCAL
    assert person_of(db, None).id == users.LOCAL


def test_a_stranger_is_refused_with_a_sentence_and_gets_no_cookie(client: TestClient) -> None:
    answer = client.post("/person", data={"user": "nobody", "back": "/"})
    assert answer.status_code == 404 and "nobody with this id" in answer.json()["detail"]
    assert "set-cookie" not in answer.headers


def test_somebody_who_is_not_active_is_refused_and_their_cookie_counts_no_more(
    db: Database, client: TestClient, ann: str
) -> None:
    users.set_active(db, ann, False)
    answer = client.post("/person", data={"user": ann})
    assert answer.status_code == 403 and "Ann is not active any more" in answer.json()["detail"]
    assert person_of(db, asked(ann)).id == users.LOCAL
    users.set_active(db, ann, True)
    assert person_of(db, asked(ann)).id == ann


@pytest.mark.parametrize(
    "back",
    ["https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere.example", "elsewhere.example", "",
     "javascript:alert(1)", "/\nset-cookie: a=b", "\\\\elsewhere.example"],
)  # fmt: skip
def test_the_way_back_is_a_path_of_ours_or_the_first_page(client: TestClient, ann: str, back: str) -> None:
    answer = client.post("/person", data={"user": ann, "back": back})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


@pytest.mark.parametrize("back", ["/", "/rate", "/team?tab=people", "/?group=01a2"])
def test_a_path_of_ours_is_gone_back_to_with_what_it_asks_for(
    client: TestClient, ann: str, back: str
) -> None:
    assert client.post("/person", data={"user": ann, "back": back}).headers["location"] == back


def test_a_page_that_is_closed_to_who_was_chosen_is_left_for_their_own(
    db: Database, client: TestClient
) -> None:
    bea = users.add_user(db, "Bea", "annotator").id
    answer = client.post("/person", data={"user": bea, "back": "/team?tab=people"})
    assert answer.headers["location"] == "/rate"

"""Who may do what: every handler and every route stands in a table, and each role is held to it."""

from __future__ import annotations

import html
import io
import json
import re
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import pytest
from fastapi.testclient import TestClient
from PIL import Image as Picture
from PIL.PngImagePlugin import PngInfo
from starlette.routing import BaseRoute, Mount

from storage import accounts, api_tokens, blobs, checkpoints, groups, image_text, sessions, users
from storage.engine import Database, open_database
from storage.models import Image, Role, User
from tests.storage.ready import ready
from ui.people import SESSION
from ui.roles import HANDLERS, MAY, ROUTES, Acts, Power, may, name_of, need_of_path
from ui.server import create_app, pages
from ui.services import Services

pytestmark = [  # Gradio leaves event loops of its own unclosed
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ROLES: tuple[Role, ...] = get_args(Role)


class Site:
    """A studio with accounts, and a browser that is logged in for each role."""

    def __init__(self, db: Database, client: TestClient) -> None:
        self.db, self.client = db, client
        accounts.set_password(db, users.LOCAL, "hash", by=users.LOCAL)
        self.people: dict[str, User] = {role: users.add_user(db, role, role) for role in ROLES}
        self.secrets = {role: sessions.open_session(db, one.id) for role, one in self.people.items()}

    def cookies(self, role: str | None) -> dict[str, str]:
        return {"cookie": f"{SESSION}={self.secrets[role]}"} if role else {}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    db = open_database(ready(tmp_path_factory.mktemp("roles")))
    checkpoints.register_base(db, name="starter", source="nowhere", family="StableDiffusionXLPipeline")
    with TestClient(create_app(db), base_url="http://127.0.0.1", follow_redirects=False) as client:
        yield Site(db, client)
    db.close()


@pytest.fixture(scope="module")
def handlers(site: Site) -> list[tuple[int, str, int]]:
    """(index, name, number of inputs) of every function that can be called."""
    demo = pages(Services(site.db))
    return [(index, name_of(one.fn), len(one.inputs)) for index, one in demo.fns.items() if one.fn]


def paths_of(routes: list[BaseRoute], before: str = "") -> Iterator[str]:
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from paths_of(inner.routes, before)
        elif isinstance(route, Mount):
            yield from paths_of(list(route.routes), before + route.path)
        else:
            yield before + route.path  # type: ignore[attr-defined]


def test_every_handler_stands_in_the_table_and_the_table_names_no_other(
    handlers: list[tuple[int, str, int]],
) -> None:
    assert {name for _, name, _ in handlers} == set(HANDLERS)


def test_every_route_stands_in_the_table(site: Site) -> None:
    known = set(paths_of(list(site.client.app.routes)))  # type: ignore[attr-defined]
    assert len(known) > 60
    unlisted = [path for path in known if not any(re.fullmatch(pattern, path) for pattern, _ in ROUTES)]
    assert unlisted == []


Call = tuple[int, int, str]
"""Index of a function, number of its inputs, what is asked of it."""
AT_ONCE = 40
"""Calls that wait in the queue together: it is looked at twenty times a second, however few there are."""


def called(site: Site, role: str | None, calls: Sequence[Call]) -> list[tuple[int, str]]:
    """Calls functions by their index, as anybody can whatever the page shows: (status, what came back)."""
    some = [calls[first : first + AT_ONCE] for first in range(0, len(calls), AT_ONCE)]
    return [said for few in some for said in _called(site, role, few)]


def _called(site: Site, role: str | None, calls: Sequence[Call]) -> list[tuple[int, str]]:
    session, headers = uuid.uuid4().hex, site.cookies(role)
    answers = [_joined(site, session, headers, call) for call in calls]
    waiting = {answer.json()["event_id"] for answer in answers if answer.status_code == 200}
    errors: dict[str, str] = {}
    if waiting:
        address = f"/gradio_api/queue/data?session_hash={session}"
        with site.client.stream("GET", address, headers=headers) as said:
            for line in said.iter_lines():
                event = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
                if event.get("msg") == "process_completed":
                    errors[event["event_id"]] = str(event.get("output", {}).get("error") or "")
                if set(errors) == waiting:
                    break
    return [
        (answer.status_code, errors[answer.json()["event_id"]] if answer.status_code == 200 else answer.text)
        for answer in answers
    ]


def _joined(site: Site, session: str, headers: dict[str, str], call: Call) -> Any:
    index, inputs, act = call
    asked = {"fn_index": index, "data": [None] * inputs, "session_hash": session, "event_data": {"act": act}}
    return site.client.post("/gradio_api/queue/join", json=asked, headers=headers)


@pytest.mark.parametrize("role", ROLES)
def test_each_role_is_refused_every_handler_that_is_not_for_it_and_no_other(
    site: Site, handlers: list[tuple[int, str, int]], role: Role
) -> None:
    calls: list[Call] = []
    needs: list[tuple[str, str, Power]] = []
    for index, name, inputs in handlers:
        need = HANDLERS[name]
        acts = {"": need.rest, **need.named} if isinstance(need, Acts) else {"": need}
        calls += [(index, inputs, act) for act in acts]
        needs += [(name, act, power) for act, power in acts.items()]
    for (name, act, power), (status, error) in zip(needs, called(site, role, calls), strict=True):
        assert status == 200
        refused = html.unescape(error).startswith(f"Your role ({role}) cannot")
        assert refused != may(site.people[role], power), (name, act, power, error)


def test_who_is_not_logged_in_calls_nothing(site: Site, handlers: list[tuple[int, str, int]]) -> None:
    calls = [(index, inputs, "") for index, _, inputs in handlers]
    assert {status for status, _ in called(site, None, calls)} == {401}


PATHS = (
    *("/", "/rate", "/compare", "/train", "/library", "/team", "/blind", "/account", "/config"),
    *(
        "/media/x.png",
        "/media/thumb/x.webp",
        "/media/blind/x/left.png",
        "/exports/x",
        "/exports/ratings/x.zip",
        "/metrics",
    ),
    *(
        "/library/prompts/x.txt",
        "/evaluations/x/csv",
        "/runs/x/config.yaml",
        "/gradio_api/info",
        "/nothing-of-the-kind",
    ),
)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("role", [None, *ROLES])
def test_each_role_gets_the_paths_of_the_table_and_no_other(site: Site, path: str, role: Role | None) -> None:
    need = need_of_path(path)
    assert need not in ("open", "nobody")
    status = site.client.get(path, headers=site.cookies(role)).status_code
    if role is None:
        assert status == 401
    else:
        assert (status == 403) != (role in MAY[need]), status  # type: ignore[index]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("role", [None, *ROLES])
def test_every_route_that_there_is_is_closed_to_whom_it_is_not_for(
    site: Site, role: Role | None, method: str
) -> None:
    refused = 0
    for route in sorted(set(paths_of(list(site.client.app.routes)))):  # type: ignore[attr-defined]
        path = re.sub(r"\{[^}]*\}", "x", route)
        need = need_of_path(path)
        if need == "open" or (need != "nobody" and role in MAY[need]):
            continue
        wanted = 404 if need == "nobody" else 401 if role is None else 403
        answer = site.client.request(method, path, headers=site.cookies(role))
        assert answer.status_code == wanted, (method, path, answer.status_code)
        refused += 1
    assert refused >= 20


@pytest.mark.parametrize("path", ["/datasets", "/adapters"])
@pytest.mark.parametrize("role", ROLES)
def test_only_who_trains_sends_files(site: Site, path: str, role: Role) -> None:
    answer = site.client.post(path, files={"file": b"x"}, headers=site.cookies(role))
    assert (answer.status_code == 403) != (role in MAY["train"])


@pytest.mark.parametrize(
    "path",
    [
        *("/gradio_api/file=/etc/passwd", "/gradio_api/upload", "/gradio_api/proxy=http://127.0.0.1"),
        *(
            "/monitoring",
            "/gradio_api/vibe-code/",
            "/gradio_api/process_recording",
            "/gradio_api/run-history/x",
        ),
        *("/gradio_api/component_server", "/gradio_api/dev/reload", "/gradio_api/stream/x"),
    ],
)
def test_what_gradio_has_and_the_studio_does_not_is_closed_to_an_admin_as_well(site: Site, path: str) -> None:
    for method in ("GET", "POST"):
        answer = site.client.request(method, path, headers=site.cookies("admin"))
        assert answer.status_code == 404


@pytest.mark.parametrize(
    "headers",
    [{"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site", "origin": ""}],
)
def test_no_request_of_another_site_succeeds_on_any_route(site: Site, headers: dict[str, str]) -> None:
    """An admin's browser, with all its cookies, is led there by a page of somebody else's."""
    paths = [re.sub(r"\{[^}]*\}", "x", path) for path in paths_of(list(site.client.app.routes))]  # type: ignore[attr-defined]
    assert len(paths) > 60
    for path in paths:
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            answer = site.client.request(method, path, headers=headers | site.cookies("admin"), json={})
            assert answer.status_code == 403, (method, path, answer.status_code)
            assert "access-control-allow-origin" not in answer.headers
        if headers.get("origin"):
            assert site.client.get(path, headers=headers | site.cookies("admin")).status_code == 403


def test_a_role_counts_from_the_moment_it_is_changed(site: Site) -> None:
    one = users.add_user(site.db, "Mo", "trainer")
    secret, token = sessions.open_session(site.db, one.id), api_tokens.make_token(site.db, one.id, "x")[1]
    for headers in ({"cookie": f"{SESSION}={secret}"}, {"authorization": f"Bearer {token}"}):
        assert site.client.get("/train", headers=headers).status_code == 200
    with site.db.write() as session:
        row = session.get(User, one.id)
        assert row is not None
        row.role = "annotator"
    for headers in ({"cookie": f"{SESSION}={secret}"}, {"authorization": f"Bearer {token}"}):
        assert site.client.get("/train", headers=headers).status_code == 403
    users.set_active(site.db, one.id, False)
    for headers in ({"cookie": f"{SESSION}={secret}"}, {"authorization": f"Bearer {token}"}):
        assert site.client.get("/rate", headers=headers).status_code == 401


def test_a_browser_that_asks_for_a_closed_page_gets_a_sentence_and_a_way_to_its_work(site: Site) -> None:
    as_browser = {"accept": "text/html", **site.cookies("annotator")}
    assert site.client.get("/", headers=as_browser).headers["location"] == "/rate"
    closed = site.client.get("/library", headers=as_browser)
    assert closed.status_code == 403
    assert "Ask an admin" in closed.text
    assert 'href="/rate"' in closed.text


def says_its_model(site: Site, image: Image, role: Role, kind: str = "{}.png") -> bool:
    answer = site.client.get("/media/" + kind.format(image.id), headers=site.cookies(role))
    with Picture.open(io.BytesIO(answer.content)) as seen:
        assert seen.convert("RGB").getpixel((3, 3)) == (200, 10, 10)
    return b"the tuned one" in answer.content


def drawn_with_a_text(site: Site) -> Image:
    (base,) = checkpoints.list_checkpoints(site.db)
    group = groups.request_group(
        site.db, prompt="p", checkpoint_id=base.id, config={}, seeds=[1], worker_id="w"
    )
    file, says = io.BytesIO(), PngInfo()
    says.add_text("parameters", "red hair, Model: the tuned one")
    Picture.new("RGB", (8, 8), (200, 10, 10)).save(file, "PNG", pnginfo=says)
    sha = blobs.put_png(site.db.home, file.getvalue())
    return groups.add_image(site.db, group_id=group.id, index=0, seed=1, sha256=sha, width=8, height=8)


def test_a_person_who_judges_blind_gets_images_without_what_they_say_of_their_model(site: Site) -> None:
    image = drawn_with_a_text(site)
    for role in ROLES:
        assert says_its_model(site, image, role) == may(site.people[role], "look")
        assert not says_its_model(site, image, role, "thumb/{}.webp")  # so small that it is its own


def test_images_are_given_without_a_text_by_a_setting_or_by_a_flag_of_the_server(site: Site) -> None:
    image = drawn_with_a_text(site)
    image_text.set_carries_text(site.db, False)
    assert not any(says_its_model(site, image, role) for role in ROLES)
    image_text.set_carries_text(site.db, True)
    assert says_its_model(site, image, "admin")
    site.client.app.state.bare_images = True  # type: ignore[attr-defined]
    try:
        assert not any(says_its_model(site, image, role) for role in ROLES)
    finally:
        site.client.app.state.bare_images = False  # type: ignore[attr-defined]

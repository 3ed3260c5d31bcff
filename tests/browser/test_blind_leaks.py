"""Nothing that reaches the browser of somebody who judges tells whose an image is: every address, header and
body is read, not only what is shown."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pytest
from playwright.sync_api import Page, Route, expect

from storage import blind
from storage.engine import open_database
from storage.models_judging import BlindTest
from tests.browser.wire import Wire
from tests.storage.ready import ready
from tests.ui.blinded import Blinded, blinded, judge_all
from tests.ui.serving import GRADIO_NOISE, web

pytestmark = GRADIO_NOISE
PIXELS = {"IHDR", "PLTE", "tRNS", "IDAT", "IEND", "sRGB", "gAMA", "cHRM"}
READY = ".sides.ready"


@dataclass(frozen=True)
class Judging:
    """Ann's browser on a studio where a test is open, with all that passes written down."""

    page: Page
    wire: Wire
    url: str
    data: Blinded
    test: BlindTest


@pytest.fixture
def judging(page: Page, tmp_path: Path) -> Iterator[Judging]:
    db = open_database(ready(tmp_path / "home"))
    data = blinded(db)
    test, wires = data.start(), list[Wire]()

    def around(app: object) -> Wire:
        wires.append(Wire(app))  # type: ignore[arg-type]
        return wires[0]

    with web(db, around=around) as url:
        page.context.add_cookies([{"name": "studio-person", "value": data.ann.id, "url": url}])
        yield Judging(page, wires[0], url, data, test)
        page.goto("about:blank")
    db.close()


def chunks(png: bytes) -> list[str]:
    """Kinds of the chunks of a PNG."""
    found, position = [], 8
    while position < len(png):
        length, kind = struct.unpack_from(">I4s", png, position)
        found.append(kind.decode())
        position += 12 + length
    return found


def judge(page: Page, *keys: str) -> None:
    """Presses a key on one pair after the other, and waits for the answer each time."""
    for done, key in enumerate(keys, 1):
        expect(page.locator(READY)).to_be_visible()
        page.keyboard.press(key)
        expect(page.locator(".foot")).to_contain_text(f"{done} of 6 pairs")


def test_who_judges_a_test_is_sent_nothing_that_tells_whose_an_image_is(judging: Judging) -> None:
    page, secrets = judging.page, judging.data.secrets()
    page.goto(f"{judging.url}/blind")
    page.get_by_role("link", name="Judge").click()
    judge(page, "ArrowLeft", "d", "t", "s", "b")
    page.keyboard.press("u")
    expect(page.locator(".saved")).to_have_text("undone")
    expect(page.locator(".foot")).to_contain_text("4 of 6 pairs")
    page.wait_for_timeout(3500)  # a tick of the page
    shown = page.content().lower()
    assert [one for one in secrets if one.lower() in shown] == []
    assert judging.wire.leaks(secrets) == []
    bodies = [exchange for exchange in judging.wire.seen if exchange.body]
    assert any(b"portrait, red hair" in exchange.body for exchange in bodies)  # the wire was read
    assert any("event-stream" in exchange.kind for exchange in bodies)
    images = [exchange for exchange in bodies if exchange.address.startswith("/media/")]
    assert len(images) >= 8
    assert all(exchange.address.startswith("/media/blind/") for exchange in images)
    assert {exchange.kind for exchange in images} == {"image/png"}
    assert {bytes(exchange.body[16:24]) for exchange in images} == {struct.pack(">II", 64, 64)}
    assert {kind for exchange in images for kind in chunks(bytes(exchange.body))} <= PIXELS


def test_the_configuration_of_the_judging_page_holds_no_list_of_checkpoints(judging: Judging) -> None:
    for address in ("/config?page=blind", "/blind"):
        with urlopen(judging.url + address) as answer:
            said = answer.read().decode()
        assert [one for one in judging.data.secrets() if one.lower() in said.lower()] == []
    config = json.loads(urlopen(judging.url + "/config?page=blind").read())
    assert {one["type"] for one in config["components"]} <= {
        "html", "state", "timer", "textbox", "navbar", "column", "form",
    }  # fmt: skip


def test_the_same_reading_finds_the_names_once_the_test_is_revealed(judging: Judging) -> None:
    judge_all(judging.data.db, judging.test, judging.data.ann)
    judging.page.goto(f"{judging.url}/blind?test={judging.test.id}")
    expect(judging.page.locator("h1")).to_have_text("All 6 pairs judged")
    expect(judging.page.locator(".blind")).to_contain_text("when somebody who starts tests reveals it")
    assert judging.wire.leaks(judging.data.secrets()) == []
    blind.reveal(judging.data.db, judging.test.id)
    expect(judging.page.locator(".result")).to_contain_text("Secret tuned 12 preferred 100%")
    assert judging.wire.leaks({"Secret base 9", "Secret tuned 12"}) != []


def test_the_list_of_an_annotator_names_no_checkpoint_while_a_test_is_open(judging: Judging) -> None:
    judging.page.goto(f"{judging.url}/compare?tab=blind&test={judging.test.id}")
    expect(judging.page.get_by_role("alert")).to_contain_text("Your role (annotator) cannot look at")
    judging.page.goto(f"{judging.url}/blind")
    expect(judging.page.locator(".list")).to_contain_text("You have judged 0 of 6 pairs.")
    events = [one for one in judging.wire.seen if "event-stream" in one.kind or "/run/" in one.address]
    said = "\n".join(text for one in events for text in one.texts())
    assert "You have judged" in said
    running = {
        str(judging.data.tuned.run_id)
    }  # the bar links to the run that is at work, on every other page
    assert [one for one in judging.data.secrets() - running if one in said] == []


def test_neither_image_is_seen_before_both_are_there(judging: Judging) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        if route.request.url.endswith("/right.png") and not held:
            held.append(route)
        else:
            route.continue_()

    page = judging.page
    page.route("**/media/blind/**", hold)
    page.goto(f"{judging.url}/blind?test={judging.test.id}")
    left = page.get_by_alt_text("The left image")
    expect(left).to_be_attached()
    page.wait_for_function("document.querySelector('.side img.own').complete")
    expect(left).not_to_be_visible()
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(300)
    assert blind.counts(judging.data.db, judging.test.id)[0] == 0  # who sees nothing does not vote
    held[0].continue_()
    expect(left).to_be_visible()
    expect(page.get_by_alt_text("The right image")).to_be_visible()


def test_the_next_person_at_a_browser_is_not_shown_the_sides_of_the_last_one(judging: Judging) -> None:
    """Sides follow from the person, so a cached left image of Ann's would be voted on as Bea's."""
    pair = blind.next_pair(judging.data.db, judging.test.id, judging.data.ann.id)
    assert pair is not None
    page = judging.page
    address = f"{judging.url}/media/blind/{pair.pair_id}/left.png"
    page.goto(f"{judging.url}/healthz")
    for person in (judging.data.ann, judging.data.bea):
        page.context.add_cookies([{"name": "studio-person", "value": person.id, "url": judging.url}])
        page.evaluate("address => fetch(address).then((answer) => answer.blob())", address)
    asked = [one for one in judging.wire.seen if one.address == f"/media/blind/{pair.pair_id}/left.png"]
    assert len(asked) == 2

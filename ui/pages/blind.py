"""Blind: the judging of a blind test on a page of its own (docs/decisions/0007), whose configuration and
traffic name no checkpoint. It is not in the bar; tests are started, and read, under /compare?tab=blind."""

from __future__ import annotations

import re
from typing import Any

import gradio as gr

from ui import blind_judging
from ui.blind_judging import Shown
from ui.components import HIDDEN, keys, live
from ui.people import person_of
from ui.services import SHOWN_ERRORS, Services, shown

PATH = "/blind"
_TICK_SECONDS = 3.0
_ID = re.compile(r"[0-9a-f-]{36}")


def build(page: gr.Blocks, services: Services) -> None:
    """Adds the page to `page`."""
    gr.Navbar(visible=False)
    bar = live("topbar", js="topbar.js")
    live("keys", keys.keys_html(PATH))
    with gr.Column(elem_classes="page", elem_id="blind-page"):
        card = live("blind-card", js="blind.js")
    test, seen = gr.Textbox(visible=False), gr.State(Shown())

    def load(request: gr.Request) -> tuple[Any, ...]:
        person, test_id = person_of(services.db, request), asked(request.query_params.get("test"))
        bar_html = blind_judging.bar_html(services, person, test_id)
        return test_id, bar_html, *blind_judging.card(services, person, test_id)

    def answer(event: gr.EventData, request: gr.Request) -> tuple[Any, Any]:
        return answered(services, event, request)

    def tick(test_id: str, last: Shown, request: gr.Request) -> tuple[Any, Any]:
        now = blind_judging.ticked(services, person_of(services.db, request), asked(test_id), last)
        return now or (gr.skip(), gr.skip())

    page.load(load, None, [test, bar, seen, card], **HIDDEN)
    # past Gradio's queue, which looks for work every 50 ms: a vote should feel like a key press
    card.answer(answer, None, [seen, card], trigger_mode="multiple", queue=False, **HIDDEN)
    gr.Timer(_TICK_SECONDS).tick(tick, [test, seen], [seen, card], **HIDDEN)


def asked(test_id: object) -> str:
    """The id in an address; what is none is kept as one that nobody knows."""
    if not test_id:
        return ""
    return test_id if isinstance(test_id, str) and _ID.fullmatch(test_id) else "unknown"


def answered(services: Services, event: Any, request: Any) -> tuple[Shown, str]:
    """Does what the card asks; what it sent wrong is said on it."""
    person = person_of(services.db, request)
    try:
        said = blind_judging.read(event)
    except SHOWN_ERRORS as error:
        test_id = asked(getattr(event, "test", ""))
        return blind_judging.card(services, person, test_id, problem=shown(error))
    return blind_judging.answered(services, person, said)

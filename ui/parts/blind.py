"""Compare, blind A/B: starting a test in two clicks, how far it is, and what came of it.

Judging has a page of its own, /blind.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from storage.models import User
from ui import blind_tests
from ui.components import HIDDEN, live, news
from ui.components.judging_form import JudgingForm, opening, shut
from ui.parts import is_open, told
from ui.people import person_of
from ui.services import SHOWN_ERRORS, Services, shown

KEY = "blind"
_TICK_SECONDS = 2.0


class _Part:
    def __init__(self, services: Services) -> None:
        self.services = services
        with gr.Row(elem_classes="judging"):
            with gr.Column(elem_classes="asking", visible=False) as self.asking:
                self.form = JudgingForm(services, "blind", blind_tests.IMAGES)
                self.plan = live("blind-plan", js="judging.js")
            with gr.Column(elem_classes="told"):
                self.tests = live("blind-tests", js="judging.js")
        self.chosen, self.note, self.last = gr.Textbox(visible=False), gr.State(""), gr.State("")

    def wire(self, page: gr.Blocks) -> None:
        form, shown_ = self.form, [self.chosen, self.last, self.tests]
        opened = page.load(self.load, None, [self.asking, *form.opened, *shown_], **HIDDEN)
        opened.then(self.redraw, [self.note, *form.typed], self.plan, **HIDDEN)
        form.wire(self.note)
        changes = [widget.change for widget in form.typed]
        gr.on(changes, self.redraw, [self.note, *form.typed], self.plan, trigger_mode="always_last", **HIDDEN)
        self.plan.act(self.start, form.typed, shown_, **HIDDEN)
        self.tests.act(self.act, self.chosen, shown_, **HIDDEN)
        gr.Timer(_TICK_SECONDS).tick(self.tick, [self.chosen, self.last], [self.last, self.tests], **HIDDEN)

    def load(self, request: gr.Request) -> tuple[Any, ...]:
        person = person_of(self.services.db, request)
        chosen = str(request.query_params.get("test", ""))
        if not is_open(request, KEY):
            return gr.skip(), *shut(), gr.skip(), gr.skip(), gr.skip()
        if not blind_tests.may_start(person):
            return gr.skip(), *shut(), *self.show(person, chosen)
        asked = str(request.query_params.get("checkpoints", "")).split(",")
        return gr.Column(visible=True), *opening(self.services, asked), *self.show(person, chosen)

    def redraw(self, request: gr.Request, note: str, *typed: Any) -> str:
        return blind_tests.plan_html(self.services, person_of(self.services.db, request), typed, note)

    def start(self, request: gr.Request, *typed: Any) -> tuple[Any, ...]:
        return started(self.services, person_of(self.services.db, request), typed)

    def act(self, chosen: str, event: gr.EventData, request: gr.Request) -> tuple[str, str, str]:
        person = person_of(self.services.db, request)
        return acted(self.services, person, chosen, str(event.act), str(event.id))

    def tick(self, chosen: str, last: str, request: gr.Request) -> tuple[Any, Any]:
        person = person_of(self.services.db, request)
        return news(blind_tests.list_html(self.services, person, chosen or ""), last)

    def show(self, person: User, chosen: str, problem: str = "") -> tuple[str, str, str]:
        return drawn(self.services, person, chosen, problem)


def build(page: gr.Blocks, services: Services) -> None:
    """Adds the part to `page`."""
    _Part(services).wire(page)


def drawn(services: Services, person: User, chosen: str, problem: str = "") -> tuple[str, str, str]:
    """The list with the chosen one, as `told` gives it."""
    return told(blind_tests.list_html, services, person, chosen, problem)


def started(services: Services, person: User, typed: tuple[Any, ...]) -> tuple[Any, ...]:
    """Starts what the form says, and shows it; a refusal stands above the tests."""
    try:
        chosen = blind_tests.start(services, person, typed)
    except SHOWN_ERRORS as error:
        return drawn(services, person, "", shown(error))
    return drawn(services, person, chosen)


def acted(services: Services, person: User, chosen: str, act: str, test_id: str) -> tuple[str, str, str]:
    """Opens, cancels, asks again for or reveals a test."""
    problem = ""
    try:
        if act == "open":
            chosen = test_id
        elif act == "cancel":
            blind_tests.cancel(services, person, test_id)
        elif act == "again":
            chosen = blind_tests.again(services, person, test_id)
        elif act == "reveal":
            blind_tests.reveal(services, person, test_id)
    except SHOWN_ERRORS as error:
        problem = shown(error)
    return drawn(services, person, chosen, problem)

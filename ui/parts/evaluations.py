"""Compare, evaluations: checkpoints on held-out prompts, measured, with intervals; tables, charts, files."""

from __future__ import annotations

from typing import Any

import gradio as gr

from storage.models import User
from ui import blind_tests, evaluating
from ui.components import HIDDEN, live, news
from ui.components.judging_form import JudgingForm, opening, shut
from ui.language import t
from ui.parts import is_open, told
from ui.people import person_of
from ui.services import SHOWN_ERRORS, Services, shown

KEY = "evaluations"
_TICK_SECONDS = 2.0


class _Part:
    def __init__(self, services: Services) -> None:
        self.services = services
        with gr.Row(elem_classes="judging"):
            with gr.Column(elem_classes="asking", visible=False) as self.asking:
                self.form = JudgingForm(services, "evaluate", evaluating.IMAGES)
                sweep = gr.Textbox(
                    label=t("evaluations.sweep"), placeholder="4, 8, 16", elem_id="evaluate-sweep"
                )
                self.plan = live("evaluation-plan", js="judging.js")
            with gr.Column(elem_classes="told"):
                self.list = live("evaluation-list", js="judging.js")
        self.typed = [*self.form.typed, sweep]
        self.chosen, self.note, self.last = gr.Textbox(visible=False), gr.State(""), gr.State("")

    def wire(self, page: gr.Blocks) -> None:
        drawn_ = [self.chosen, self.last, self.list]
        opened = page.load(self.load, None, [self.asking, *self.form.opened, *drawn_], **HIDDEN)
        asked = [self.note, *self.typed]
        opened.then(self.redraw, asked, self.plan, **HIDDEN)
        self.form.wire(self.note)
        changes = [widget.change for widget in self.typed]
        gr.on(changes, self.redraw, asked, self.plan, trigger_mode="always_last", **HIDDEN)
        self.plan.act(self.start, self.typed, drawn_, **HIDDEN)
        self.list.act(self.act, self.chosen, drawn_, **HIDDEN)
        gr.Timer(_TICK_SECONDS).tick(self.tick, [self.chosen, self.last], [self.last, self.list], **HIDDEN)

    def load(self, request: gr.Request) -> tuple[Any, ...]:
        person = person_of(self.services.db, request)
        chosen = str(request.query_params.get("job", ""))
        if not is_open(request, KEY):
            return gr.skip(), *shut(), gr.skip(), gr.skip(), gr.skip()
        if not blind_tests.may_start(person):
            return gr.skip(), *shut(), *drawn(self.services, person, chosen)
        asked = str(request.query_params.get("checkpoints", "")).split(",")
        return gr.Column(visible=True), *opening(self.services, asked), *drawn(self.services, person, chosen)

    def redraw(self, request: gr.Request, note: str, *typed: Any) -> str:
        return evaluating.plan_html(self.services, person_of(self.services.db, request), typed, note)

    def start(self, request: gr.Request, *typed: Any) -> tuple[str, str, str]:
        person = person_of(self.services.db, request)
        try:
            chosen = evaluating.start(self.services, person, typed)
        except SHOWN_ERRORS as error:
            return drawn(self.services, person, "", shown(error))
        return drawn(self.services, person, chosen)

    def act(self, chosen: str, event: gr.EventData, request: gr.Request) -> tuple[str, str, str]:
        person = person_of(self.services.db, request)
        return acted(self.services, person, chosen, str(event.act), str(event.id))

    def tick(self, chosen: str, last: str, request: gr.Request) -> tuple[Any, Any]:
        person = person_of(self.services.db, request)
        return news(evaluating.list_html(self.services, person, chosen or ""), last)


def build(page: gr.Blocks, services: Services) -> None:
    """Adds the part to `page`."""
    _Part(services).wire(page)


def drawn(services: Services, person: User, chosen: str, problem: str = "") -> tuple[str, str, str]:
    """The list with the chosen one, as `told` gives it."""
    return told(evaluating.list_html, services, person, chosen, problem)


def acted(services: Services, person: User, chosen: str, act: str, job_id: str) -> tuple[str, str, str]:
    """Opens, cancels or asks again for an evaluation."""
    problem = ""
    try:
        if act == "open":
            chosen = job_id
        elif act == "cancel":
            evaluating.cancel(services, person, job_id)
        elif act == "again":
            chosen = evaluating.again(services, person, job_id)
    except SHOWN_ERRORS as error:
        problem = shown(error)
    return drawn(services, person, chosen, problem)

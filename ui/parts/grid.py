"""The grid of Compare: checkpoints x prompts at the same seeds."""

from __future__ import annotations

import hashlib
from typing import Any

import gradio as gr

from ui import comparing, waiting
from ui.components import HIDDEN, live, render, sentence
from ui.components.light_table import grid_html
from ui.language import t
from ui.parts import filling, grid_address, is_open
from ui.people import person_of
from ui.services import SHOWN_ERRORS, Services, shown

TAB = "grid"
_TICK_SECONDS = 1.0
_IMAGES, _STEPS, _GUIDANCE, _SEEDS = 6, 8, 1.0, "7"


class _Part:
    """The widgets of the part, and what each of its events does."""

    def __init__(self, services: Services) -> None:
        self.services = services
        with gr.Row(elem_classes="workspace"):
            with gr.Column(elem_id="panel"):
                self.form = _form()
                message = live("message")
            with gr.Column(elem_id="canvas"):
                self.canvas = live("grid", js="table.js")
        self.page, stamp, self.asked = gr.State(0), gr.State(""), gr.State(None)
        self.drawn = [stamp, message, self.canvas]

    def wire(self, page: gr.Blocks) -> None:
        """Connects the events."""
        form, drawn, seen = self.form, self.drawn, [self.page, *self.form]
        source, prompts = form[0], form[2]
        opened = page.load(self.load, None, [self.asked, *seen], **HIDDEN)
        opened.then(self.first, seen, drawn, **HIDDEN)
        look = gr.Timer(filling.SECONDS)
        look.tick(self.fill_again, [self.asked, *form], [self.asked, look, *form], **HIDDEN)
        source.input(self.fill, source, prompts, **HIDDEN)
        changes = [widget.change for widget in form]
        gr.on(changes, self.draw, seen, drawn, trigger_mode="always_last", **HIDDEN)
        self.canvas.act(self.act, seen, [self.page, *drawn], **HIDDEN)
        gr.Timer(_TICK_SECONDS).tick(self.tick, [drawn[0], *seen], drawn, **HIDDEN)

    def load(self, request: gr.Request) -> tuple[Any, ...]:
        """The form as the address asks for it."""
        if not is_open(request, TAB):
            return (gr.skip(),) * (2 + len(self.form))
        query = dict(request.query_params)
        return filling.Asked(query), grid_address.page_of(query), *self.values(query)

    def values(self, query: dict[str, str]) -> list[Any]:
        """What the widgets hold at an address."""
        source = gr.Dropdown(
            choices=grid_address.set_choices(self.services),
            value=grid_address.asked_set(self.services, query),
        )
        return [source, *grid_address.opening(self.services, query)]

    def fill_again(self, asked: filling.Asked | None, *typed: Any) -> tuple[Any, ...]:
        """What of the address did not reach the form."""
        return filling.look(asked, self.values, [one.value for one in self.form], typed)

    def first(self, request: gr.Request, *seen: Any) -> tuple[Any, ...]:
        """The first drawing, whether or not the address changed the form."""
        return self.draw(*seen) if is_open(request, TAB) else (gr.skip(),) * len(self.drawn)

    def fill(self, source: Any) -> Any:
        """The prompts of the chosen set."""
        chosen = grid_address.set_prompts(self.services, source)
        return "\n".join(chosen.lines) if chosen else gr.skip()

    def draw(self, page: int, source: Any, *typed: Any) -> tuple[Any, ...]:
        """The grid of the form as it stands."""
        return drawing(self.services, page, source, typed)

    def act(
        self, page: int, source: Any, event: gr.EventData, request: gr.Request, *typed: Any
    ) -> tuple[Any, ...]:
        """The wish to generate what is missing, to cancel what is open, or to see other prompts."""
        act, problem = str(event.act), ""
        if act == "page":
            page = grid_address.page_of({"page": str(event.id)})
        else:
            problem = work(self.services, act, typed, person_of(self.services.db, request).id)
        mark, words, html = drawing(self.services, page, source, typed)
        return page, mark, sentence(problem) if problem else words, html

    def tick(self, last: str, page: int, source: Any, *typed: Any) -> tuple[Any, ...]:
        """Redraws when rows changed; nothing before the form is there."""
        if not last:
            return (gr.skip(),) * len(self.drawn)
        return drawing(self.services, page, source, typed, last)


def build(page: gr.Blocks, services: Services) -> None:
    """Adds the part to `page`."""
    _Part(services).wire(page)


def _form() -> list[Any]:
    """The left panel: prompt set, then checkpoints, prompts, seeds, images, steps, guidance, negative prompt,
    width, height, in the order of `comparing.check`. Choices come when the tab is opened."""
    chosen = gr.Dropdown(
        [], label=t("compare.checkpoints"), multiselect=True, elem_id="compare-checkpoints", value=[]
    )
    source = gr.Dropdown(
        [(t("compare.no_set"), "")],
        value="",
        label=t("compare.prompt_set"),
        info=t("compare.prompt_set_info"),
        elem_id="compare-set",
    )
    prompts = gr.Textbox(
        grid_address.FIRST_PROMPTS,
        label=t("compare.prompts"),
        info=t("compare.prompts_info", mark=comparing.LINE_BREAK),
        lines=8,
        max_lines=12,
        elem_id="compare-prompts",
    )
    with gr.Row(elem_classes="trio"):
        count = gr.Number(_IMAGES, label=t("compare.images"), precision=0, elem_id="compare-images")
        steps = gr.Number(_STEPS, label=t("compare.steps"), precision=0, elem_id="compare-steps")
        guidance = gr.Number(_GUIDANCE, label=t("compare.guidance"), step=0.5, elem_id="compare-guidance")
    seeds = gr.Textbox(
        _SEEDS, label=t("compare.seeds"), info=t("compare.seeds_info"), elem_id="compare-seeds"
    )
    with gr.Accordion(t("compare.more"), open=False, elem_id="compare-more"):
        negative, width, height = size_fields("compare")
    return [source, chosen, prompts, seeds, count, steps, guidance, negative, width, height]


def size_fields(prefix: str) -> tuple[Any, Any, Any]:
    """Negative prompt, width and height."""
    negative = gr.Textbox(
        label=t("compare.negative"),
        lines=2,
        elem_id=f"{prefix}-negative",
        placeholder=t("compare.negative_empty"),
    )
    empty = t("compare.size_empty")
    with gr.Row(elem_classes="trio"):
        width = gr.Number(
            None, label=t("compare.width"), precision=0, placeholder=empty, elem_id=f"{prefix}-width"
        )
        height = gr.Number(
            None, label=t("compare.height"), precision=0, placeholder=empty, elem_id=f"{prefix}-height"
        )
    return negative, width, height


def drawing(
    services: Services, page: int, source: object, typed: tuple[Any, ...], last: str = ""
) -> tuple[Any, Any, Any]:
    """(stamp, sentence, grid), or nothing new where the stamp is still `last`. A form that is wrong says so
    and shows no grid."""
    try:
        plan = comparing.check(services, *typed)
        grid = comparing.cells(services, plan)
        work = waiting.work_of(services, comparing.views(grid))
        stamp = _stamp(page, source, typed, work.words, comparing.news(grid))
        if stamp == last:
            return gr.skip(), gr.skip(), gr.skip()
        address, notes = grid_address.address_of(services, page, source, typed)
        return stamp, "", grid_html(services, plan, page, address, grid=grid, notes=notes)
    except SHOWN_ERRORS as error:
        words = shown(error)
        stamp = _stamp(words)
        if stamp == last:
            return gr.skip(), gr.skip(), gr.skip()
        return stamp, sentence(words), render("no_grid.html")


def _stamp(*seen: object) -> str:
    return hashlib.sha256(repr(seen).encode()).hexdigest()


def work(services: Services, act: str, typed: tuple[Any, ...], person_id: str) -> str:
    """Queues the missing cells or cancels the open ones; the sentence of what stands against it."""
    try:
        plan = comparing.check(services, *typed)
        if act == "generate":
            comparing.generate_missing(services, plan, person_id)
        elif act == "cancel":
            waiting.cancel(services, comparing.views(comparing.cells(services, plan)))
    except SHOWN_ERRORS as error:
        return shown(error)
    return ""

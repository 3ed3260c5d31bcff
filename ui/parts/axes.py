"""X/Y in Compare: an image for every pair of values of two parameters, kept under a number and run again."""

from __future__ import annotations

import hashlib
from typing import Any

import gradio as gr

from storage import grids
from storage.models_studio import SavedGrid
from ui import axes_cells, waiting
from ui.axes import AxesForm, check
from ui.components import HIDDEN, live, render, sentence
from ui.components.axes_table import axes_html, saved_html
from ui.parts import axes_form, filling, is_open
from ui.parts.axes_form import NAMES, SIDES, AxesWidgets
from ui.people import person_of
from ui.services import SHOWN_ERRORS, Services, shown

TAB = "axes"
_TICK_SECONDS = 1.0


class _Part:
    """The widgets of the part, and what each of its events does."""

    def __init__(self, services: Services) -> None:
        self.services = services
        with gr.Row(elem_classes="workspace"):
            with gr.Column(elem_id="panel"):
                self.form = AxesWidgets()
                message = live("message")
            with gr.Column(elem_id="canvas"):
                self.canvas = live("axes", js="table.js")
                saved = live("saved-grids")
        self.origin, self.usual, stamp = gr.State(""), gr.State(None), gr.State("")
        self.kept, self.asked = gr.State({}), gr.State(None)
        self.drawn = [stamp, message, self.canvas, saved]
        self.seen = [self.origin, self.usual, *self.form.all]

    def wire(self, page: gr.Blocks) -> None:
        """Connects the events."""
        form, made = self.form, self.form.by_name
        filled = [form.name, *form.all]
        known = [self.asked, self.origin, self.usual, self.kept]
        opened = page.load(self.load, None, [*known, *filled], **HIDDEN)
        opened.then(self.first, self.seen, self.drawn, **HIDDEN)
        look = gr.Timer(filling.SECONDS)
        look.tick(self.fill_again, [self.asked, *filled], [self.asked, look, *filled], **HIDDEN)
        axes = [made["x"], made["y"]]
        opened.then(axes_form.looks, axes, form.all, **HIDDEN)
        gr.on([one.change for one in axes], axes_form.looks, axes, form.all, **HIDDEN)
        for side in SIDES:
            values = made[f"{side}_values"]
            told = [self.kept, made[side], values, made["checkpoint"], made["prompt"]]
            made[side].input(self.switch(side), told, [self.kept, values], **HIDDEN)
        changes = [widget.change for widget in form.all]
        gr.on(changes, self.draw, self.seen, self.drawn, trigger_mode="always_last", **HIDDEN)
        acted = [self.origin, *self.drawn]
        self.canvas.act(self.act, [form.name, *self.seen], acted, **HIDDEN)
        gr.Timer(_TICK_SECONDS).tick(self.tick, [self.drawn[0], *self.seen], self.drawn, **HIDDEN)

    def load(self, request: gr.Request) -> tuple[Any, ...]:
        """The form as the address asks for it."""
        if not is_open(request, TAB):
            return (gr.skip(),) * (5 + len(self.form.all))
        query = dict(request.query_params)
        form = axes_form.opening(self.services, query)
        known = filling.Asked(query), query.get("grid", ""), form.checkpoint, {"x": form.x, "y": form.y}
        return *known, *self.values(query)

    def values(self, query: dict[str, str]) -> list[Any]:
        """What the widgets hold at an address: the name first."""
        form = axes_form.opening(self.services, query)
        choices = axes_form.choices_for(self.services, form)
        values = {name: getattr(form, name) for name in NAMES}
        for name in ("checkpoint", "x_checkpoints", "y_checkpoints"):
            values[name] = gr.Dropdown(choices=choices, value=values[name])
        origin, _ = _origin(self.services, query.get("grid", ""))
        return [origin.name if origin else "", *values.values()]

    def fill_again(self, asked: filling.Asked | None, *typed: Any) -> tuple[Any, ...]:
        """What of the address did not reach the form."""
        return filling.look(asked, self.values, ["", *(one.value for one in self.form.all)], typed)

    def first(self, request: gr.Request, *seen: Any) -> tuple[Any, ...]:
        """The first drawing, whether or not the address changed the form."""
        return self.draw(*seen) if is_open(request, TAB) else (gr.skip(),) * len(self.drawn)

    def switch(self, side: str) -> Any:
        """What happens when another axis is chosen: its own values come back, or some to start with."""

        def switched(kept: dict[str, str], key: str, values: str, checkpoint: Any, prompt: Any) -> Any:
            if kept.get(side) == key:  # Gradio says so twice
                return gr.skip(), gr.skip()
            kept = {**kept, f"{side}:{kept.get(side)}": values, side: key}
            known = kept.get(f"{side}:{key}")
            return kept, known or axes_form.suggested(self.services, key, checkpoint, prompt)

        return switched

    def draw(self, origin: str, usual: str | None, *typed: Any) -> tuple[Any, ...]:
        """The grid of the form as it stands."""
        return drawing(self.services, origin, held(usual, typed))

    def act(
        self,
        name: Any,
        origin: str,
        usual: str | None,
        event: gr.EventData,
        request: gr.Request,
        *typed: Any,
    ) -> tuple[Any, ...]:
        """Save, generate, run again or cancel; a grid whose images are asked for is saved."""
        problem, typed = "", held(usual, typed)
        try:
            origin = work(self.services, str(event.act), typed, name, person_of(self.services.db, request).id)
        except SHOWN_ERRORS as error:
            problem = shown(error)
        stamp, words, html, saved = drawing(self.services, origin, typed)
        return origin, stamp, sentence(problem) if problem else words, html, saved

    def tick(self, last: str, origin: str, usual: str | None, *typed: Any) -> tuple[Any, ...]:
        """Redraws when rows changed; nothing before the form is there."""
        seen = held(usual, typed)
        return drawing(self.services, origin, seen, last) if last else (gr.skip(),) * len(self.drawn)


def build(page: gr.Blocks, services: Services) -> None:
    """Adds the part to `page`."""
    _Part(services).wire(page)


def held(usual: str | None, typed: tuple[Any, ...]) -> tuple[Any, ...]:
    """What was typed, with the checkpoint that the page opened with where its list says none: nobody empties
    it, but under load Gradio shows a choice there and sends nothing.
    """
    return tuple(
        value or usual if name == "checkpoint" else value for name, value in zip(NAMES, typed, strict=True)
    )


def work(services: Services, act: str, typed: tuple[Any, ...], name: object, person_id: str) -> str:
    """Does one act; returns the id of the saved grid, empty for one that is not saved."""
    plan = check(services, AxesForm(*typed))
    if act == "cancel":
        waiting.cancel(services, axes_cells.views(axes_cells.cells(services, plan)))
        known = grids.grid_of(services.db, plan.spec.dump())
        return known.id if known else ""
    saved = axes_cells.save(services, plan, name, person_id)
    if act in ("generate", "again"):
        axes_cells.generate(services, plan, person_id, is_again=act == "again")
    return saved.id


def drawing(
    services: Services, origin_id: str, typed: tuple[Any, ...], last: str = ""
) -> tuple[Any, Any, Any, Any]:
    """(stamp, sentence, grid, saved grids), or nothing new where the stamp is still `last`."""
    listed = [line.grid.id for line in grids.list_grids(services.db)]
    saved = None
    try:
        plan = check(services, AxesForm(*typed))
        known = axes_cells.cells(services, plan)
        saved = grids.grid_of(services.db, plan.spec.dump())
        open_work = waiting.work_of(services, axes_cells.views(known))
        stamp = _stamp(typed, origin_id, listed, open_work.words, axes_cells.news(known))
        if stamp == last:
            return (gr.skip(),) * 4
        address = axes_form.address_of(plan.spec, saved)
        origin, trouble = _origin(services, origin_id)
        words, html = (
            sentence(trouble),
            axes_html(services, plan, known, saved=saved, origin=origin, address=address),
        )
    except SHOWN_ERRORS as error:
        words, html = sentence(shown(error)), render("no_grid.html")
        stamp = _stamp(words, listed)
        if stamp == last:
            return (gr.skip(),) * 4
    return stamp, words, html, saved_html(services, saved.id if saved else "")


def _origin(services: Services, grid_id: str) -> tuple[SavedGrid | None, str]:
    """The saved grid that was opened, and what to say where there is none of this id."""
    try:
        return (grids.get_grid(services.db, grid_id), "") if grid_id else (None, "")
    except LookupError as error:
        return None, shown(error)


def _stamp(*seen: object) -> str:
    return hashlib.sha256(repr(seen).encode()).hexdigest()

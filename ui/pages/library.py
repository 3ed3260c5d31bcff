"""Library: images, prompt sets, checkpoints, bases, rewards, datasets; the address says what is shown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from ui.components import HIDDEN, live, render, sentence, topbar
from ui.library import frame
from ui.library.shelf import address
from ui.people import person_of
from ui.services import SHOWN_ERRORS, Services, shown

PATH = "/library"
_TICK_SECONDS = 2.0


@dataclass(frozen=True)
class Seen:
    """What one browser looks at: the address without its path, and how many acts it has had done."""

    query: str = ""
    turn: int = 0


class _Page:
    """The widgets of the page, and what each of its events does."""

    def __init__(self, services: Services) -> None:
        self.services = services
        with gr.Column(elem_classes="page", elem_id="library-page"):
            self.message = live("library-message")
            self.canvas = live("library", js="library.js")
        self.seen, self.drawn = gr.State(Seen()), gr.State("")

    def wire(self, page: gr.Blocks) -> None:
        """Connects the events; a tick never changes where the page is."""
        outputs = [self.seen, self.drawn, self.message, self.canvas]
        page.load(self.load, None, outputs, **HIDDEN)
        self.canvas.go(self.go, self.seen, outputs, trigger_mode="multiple", **HIDDEN)
        self.canvas.act(self.act, self.seen, outputs, trigger_mode="multiple", **HIDDEN)
        ticked = [self.drawn, self.canvas]
        gr.Timer(_TICK_SECONDS).tick(self.tick, [self.seen, self.drawn], ticked, **HIDDEN)

    def load(self, request: gr.Request) -> tuple[Any, ...]:
        """What the address asks for."""
        return self._drawn(Seen(address(dict(request.query_params))), "")

    def go(self, seen: Seen, event: gr.EventData) -> tuple[Any, ...]:
        """Another address."""
        said = str(getattr(event, "words", ""))
        return self._drawn(replace(seen, query=str(event.query)), sentence(said))

    def act(self, seen: Seen, event: gr.EventData, request: gr.Request) -> tuple[Any, ...]:
        """One button or form. A refusal, or something to look at first, redraws nothing."""
        person = person_of(self.services.db, request)
        try:
            done = frame.act(
                self.services, person, str(event.act), str(event.query), dict(event.fields or {})
            )
        except SHOWN_ERRORS as error:
            return seen, gr.skip(), sentence(shown(error)), gr.skip()
        if done.preview is not None:
            template, values = done.preview
            return seen, gr.skip(), render(template, **values), gr.skip()
        query = str(event.query) if done.query is None else address(done.query)
        return self._drawn(Seen(query, seen.turn + 1), sentence(done.words))

    def tick(self, seen: Seen, drawn: str) -> tuple[Any, Any]:
        """Redraws what changes by itself, when it did."""
        if not frame.tab_of(seen.query).is_live:
            return gr.skip(), gr.skip()
        now = frame.html(self.services, seen.query, seen.turn)
        return (now, now) if now != drawn else (gr.skip(), gr.skip())

    def _drawn(self, seen: Seen, message: str) -> tuple[Any, ...]:
        try:
            html = frame.html(self.services, seen.query, seen.turn)
        except SHOWN_ERRORS as error:
            where = replace(seen, query=address({"tab": frame.tab_of(seen.query).name}))
            return self._drawn_again(where, sentence(shown(error)))
        return seen, html, message, html

    def _drawn_again(self, seen: Seen, message: str) -> tuple[Any, ...]:
        """The tab without what could not be shown; its address follows."""
        seen = replace(seen, turn=seen.turn + 1)
        html = frame.html(self.services, seen.query, seen.turn)
        return seen, html, message, html


def build(page: gr.Blocks, services: Services) -> None:
    """Adds the page to `page`."""
    topbar.build(page, PATH, services)
    _Page(services).wire(page)

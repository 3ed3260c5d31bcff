"""The bar on top of every page: where you are, and what the engine does."""

from __future__ import annotations

import gradio as gr

from ui.components import HIDDEN, live, render
from ui.services import EngineStatus, Services

PAGES = (("Studio", "/"), ("Rate", "/rate"), ("Compare", "/compare"), ("Train", "/train"))
_SECONDS = 2.0
_UNKNOWN = EngineStatus("Engine", "")


def build(page: gr.Blocks, here: str, services: Services) -> None:
    """Adds the bar to the page at path `here`; it redraws itself when the engine's state changes."""

    def tick(shown: str) -> tuple[object, object]:
        now = html(services, here)
        return (now, now) if now != shown else (gr.skip(), gr.skip())

    gr.Navbar(visible=False)
    first = _html(_UNKNOWN, here)  # stays as long as the web lives; what is now comes with the load
    bar = live("topbar", first, "topbar.js")
    last = gr.State(first)
    timer = gr.Timer(_SECONDS)
    page.load(tick, last, [bar, last], **HIDDEN)
    timer.tick(tick, last, [bar, last], **HIDDEN)


def html(services: Services, here: str) -> str:
    """Renders the bar of the page at path `here`, with what the engine said when it ended."""
    return _html(services.engine(), here)


def _html(status: EngineStatus, here: str) -> str:
    return render("topbar.html", pages=PAGES, here=here, **vars(status))

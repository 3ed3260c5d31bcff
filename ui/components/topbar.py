"""The bar on top of every page: where you are, and what the engine does."""

from __future__ import annotations

import gradio as gr

from ui.components import live, render
from ui.services import Services

PAGES = (("Studio", "/"), ("Rate", "/rate"), ("Compare", "/compare"), ("Train", "/train"))
_SECONDS = 2.0


def build(here: str, services: Services) -> None:
    """Adds the bar to the page at path `here`; it redraws itself when the engine's state changes."""

    def draw() -> str:
        status = services.engine()
        return render(
            "topbar.html", pages=PAGES, here=here, words=status.words, tone=status.tone, link=status.link
        )

    def tick(shown: str) -> tuple[object, object]:
        now = draw()
        return (now, now) if now != shown else (gr.skip(), gr.skip())

    gr.Navbar(visible=False)
    first = draw()
    bar = live("topbar", first, "topbar.js")
    last = gr.State(first)
    timer = gr.Timer(_SECONDS)
    timer.tick(
        tick, last, [bar, last], show_progress="hidden", concurrency_limit=None, api_visibility="private"
    )

"""Compare, leaderboard: which checkpoint people prefer in all revealed blind tests, and how sure that is."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ui import boards
from ui.components import HIDDEN, live
from ui.parts import is_open
from ui.people import person_of
from ui.services import Services

KEY = "leaderboard"
_TICK_SECONDS = 3.0


def build(page: gr.Blocks, services: Services) -> None:
    """Adds the part to `page`."""
    with gr.Column(elem_classes="told alone"):
        board = live("board", js="judging.js")
    last = gr.State("")

    def load(request: gr.Request) -> tuple[Any, Any]:
        return opened(services) if is_open(request, KEY) else (gr.skip(), gr.skip())

    def tick(shown: str) -> tuple[Any, Any]:
        now = opened(services)
        return now if now[0] != shown else (gr.skip(), gr.skip())

    def act(event: gr.EventData, request: gr.Request) -> tuple[str, str]:
        if event.act == "count":
            boards.count_again(services, person_of(services.db, request).id)
        return opened(services)

    page.load(load, None, [last, board], **HIDDEN)
    board.act(act, None, [last, board], **HIDDEN)
    gr.Timer(_TICK_SECONDS).tick(tick, last, [last, board], **HIDDEN)


def opened(services: Services) -> tuple[str, str]:
    """The board as it stands; has the votes counted where nobody has since the last reveal."""
    boards.ask(services)
    html = boards.board_html(services)
    return html, html

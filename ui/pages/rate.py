"""Rate: one group, one decision, by keyboard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from storage import ratings
from storage.groups import GroupView
from ui import rating
from ui.components import HIDDEN, live, topbar
from ui.services import LOCAL_USER, SHOWN_ERRORS, Services, shown

PATH = "/rate"
_TICK_SECONDS = 3.0


@dataclass(frozen=True)
class Seen:
    """What one browser shows: the group on the card, None for the empty state, and how many cards and answers
    it has had."""

    group_id: str | None = None
    turn: int = 0
    heard: int = 0


def build(page: gr.Blocks, services: Services) -> None:
    """Adds the page to `page`."""
    topbar.build(PATH, services)
    with gr.Column(elem_classes="page", elem_id="rate-page"):
        card = live("card", js="rate.js")
    seen = gr.State(Seen())

    def load(request: gr.Request) -> tuple[Seen, str]:
        wanted = request.query_params.get("group")
        view = rating.start(services.db, LOCAL_USER, wanted)
        return show(services, Seen(), view)

    def answer(state: Seen, event: gr.EventData) -> tuple[Any, Any]:
        return answered(services, state, str(event.act), event)

    def tick(state: Seen) -> tuple[Any, Any]:
        if state.group_id is not None:
            return gr.skip(), gr.skip()
        view = ratings.next_task(services.db, LOCAL_USER)
        return show(services, state, view) if view else (gr.skip(), gr.skip())

    page.load(load, None, [seen, card], **HIDDEN)
    # past Gradio's queue, which looks for work every 50 ms: a vote should feel like a key press
    card.answer(answer, seen, [seen, card], trigger_mode="multiple", queue=False, **HIDDEN)
    gr.Timer(_TICK_SECONDS).tick(tick, seen, [seen, card], **HIDDEN)


def show(services: Services, state: Seen, view: GroupView | None, **words: Any) -> tuple[Seen, str]:
    """The next card (a new turn), or the empty state."""
    group_id = view.group.id if view else None
    state = replace(state, group_id=group_id, turn=state.turn + 1, heard=state.heard + 1)
    html = rating.card_html(
        view,
        ratings.progress(services.db, LOCAL_USER),
        turn=str(state.turn),
        heard=state.heard,
        upcoming=rating.upcoming(services.db, LOCAL_USER, group_id),
        **words,
    )
    return state, html


def answered(services: Services, state: Seen, act: str, event: Any) -> tuple[Any, Any]:
    """Keeps an answer and shows the next card. A refusal leaves the card, and what was chosen, as it is."""
    try:
        if act == "undo":
            undone = rating.undo(services.db, LOCAL_USER, str(event.key))
            if undone is None:
                return again(services, state, saved="nothing to undo")
            return show(services, state, undone.view, saved="undone", best=undone.best, stars=undone.stars)
        said = rating.read_answer(event.group, event.key, event.best or None, event.stars, event.lead_ms)
        keep: Callable[..., GroupView | None] = rating.skip if act == "skip" else rating.submit
        following = keep(services.db, LOCAL_USER, said)
    except SHOWN_ERRORS as error:
        return again(services, state, problem=shown(error))
    return show(services, state, following, saved="skipped" if act == "skip" else "saved")


def again(services: Services, state: Seen, **words: Any) -> tuple[Seen, str]:
    """The same card once more, on the same turn, so that the browser keeps what was chosen."""
    state = replace(state, heard=state.heard + 1)
    progress = ratings.progress(services.db, LOCAL_USER)
    view = services.group(state.group_id)
    return state, rating.card_html(view, progress, turn=str(state.turn), heard=state.heard, **words)

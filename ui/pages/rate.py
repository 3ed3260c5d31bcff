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
from ui.rating import Card
from ui.services import LOCAL_USER, SHOWN_ERRORS, Services, shown

PATH = "/rate"
_TICK_SECONDS = 3.0
WAITS = "Every rating that was given is kept, and this page asks for a group again by itself."


@dataclass(frozen=True)
class Seen:
    """What one browser shows.

    Attributes:
        group_id: the group on the card, None for the empty state.
        turn: how many cards it has had.
        heard: how many answers it has had.
        in_trouble: whether the empty state stands for a disk that took no lease.
        notice: the sentence on the card about why it is shown.
        is_judged: whether the group on the card was judged before.
    """

    group_id: str | None = None
    turn: int = 0
    heard: int = 0
    in_trouble: bool = False
    notice: str = ""
    is_judged: bool = False


def build(page: gr.Blocks, services: Services) -> None:
    """Adds the page to `page`."""
    topbar.build(page, PATH, services)
    with gr.Column(elem_classes="page", elem_id="rate-page"):
        card = live("card", js="rate.js")
    seen = gr.State(Seen())

    def load(request: gr.Request) -> tuple[Seen, str]:
        return opened(services, request.query_params.get("group"))

    def answer(state: Seen, event: gr.EventData) -> tuple[Any, Any]:
        return answered(services, state, str(event.act), event)

    def tick(state: Seen) -> tuple[Any, Any]:
        return ticked(services, state)

    page.load(load, None, [seen, card], **HIDDEN)
    # past Gradio's queue, which looks for work every 50 ms: a vote should feel like a key press
    card.answer(answer, seen, [seen, card], trigger_mode="multiple", queue=False, **HIDDEN)
    gr.Timer(_TICK_SECONDS).tick(tick, seen, [seen, card], **HIDDEN)


def show(services: Services, state: Seen, card: Card, **words: Any) -> tuple[Seen, str]:
    """The next card (a new turn), or the empty state."""
    group_id = card.view.group.id if card.view else None
    turn, heard = state.turn + 1, state.heard + 1
    state = Seen(group_id, turn, heard, notice=card.notice, is_judged=card.is_judged)
    html = rating.card_html(
        card,
        ratings.progress(services.db, LOCAL_USER),
        turn=str(state.turn),
        heard=state.heard,
        upcoming=rating.upcoming(services.db, LOCAL_USER, group_id),
        **words,
    )
    return state, html


def opened(services: Services, wanted: object) -> tuple[Seen, str]:
    """The first card. A disk that takes no lease leaves the page empty, with the reason; `ticked` goes on."""
    try:
        card = rating.start(services.db, LOCAL_USER, wanted)
    except SHOWN_ERRORS as error:
        return again(services, Seen(in_trouble=True), problem=f"{shown(error)} {WAITS}")
    return show(services, Seen(), card)


def ticked(services: Services, state: Seen) -> tuple[Any, Any]:
    """A page without a group looks for one; one that has a group is left alone."""
    if state.group_id is not None:
        return gr.skip(), gr.skip()
    try:
        view = ratings.next_task(services.db, LOCAL_USER)
    except SHOWN_ERRORS as error:
        if state.in_trouble:
            return gr.skip(), gr.skip()
        return again(services, replace(state, in_trouble=True), problem=f"{shown(error)} {WAITS}")
    return show(services, state, Card(view)) if view or state.in_trouble else (gr.skip(), gr.skip())


def answered(services: Services, state: Seen, act: str, event: Any) -> tuple[Any, Any]:
    """Keeps an answer and shows the next card. A refusal leaves the card, and what was chosen, as it is."""
    try:
        if act == "undo":
            undone = rating.undo(services.db, LOCAL_USER, str(event.key))
            if undone is None:
                return again(services, state, saved="nothing to undo")
            return show(services, state, undone, saved="undone")
        if act == "skip" and state.is_judged:
            following = ratings.next_task(services.db, LOCAL_USER)
            return show(services, state, Card(following), saved="left as it was")
        said = rating.read_answer(event.group, event.key, event.best or None, event.stars, event.lead_ms)
        keep: Callable[..., GroupView | None] = rating.skip if act == "skip" else rating.submit
        following = keep(services.db, LOCAL_USER, said)
    except SHOWN_ERRORS as error:
        return again(services, state, problem=shown(error))
    return show(services, state, Card(following), saved="skipped" if act == "skip" else "saved")


def again(services: Services, state: Seen, **words: Any) -> tuple[Seen, str]:
    """The same card once more, on the same turn, so that the browser keeps what was chosen."""
    state = replace(state, heard=state.heard + 1)
    progress = ratings.progress(services.db, LOCAL_USER)
    card = Card(services.group(state.group_id), notice=state.notice)
    return state, rating.card_html(card, progress, turn=str(state.turn), heard=state.heard, **words)

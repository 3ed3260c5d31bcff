"""Rate: one group, one decision, by keyboard."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from storage import rating_rules, ratings
from storage.models import User
from storage.ratings import Progress
from ui import rate_pause, rate_prefs, rating, rating_card
from ui.components import HIDDEN, desk, live, render, topbar
from ui.language import t
from ui.people import person_of
from ui.rating_card import Card
from ui.services import SHOWN_ERRORS, Services, shown

PATH = "/rate"
TURN_SECONDS = 1.0
_SAID_BY_CARD = (
    "saving", "undoing", "pick", "rank_two", "late_submit", "late_skip", "late_undo", "late_go", "marking",
    "beside",
    "first_choice", "order_empty", "nothing_to_flip",
)  # fmt: skip
"""Sentences that the browser says by itself."""
_SCRIPTS = "rate.js rate_modes.js rate_look.js rate_input.js"


@dataclass(frozen=True)
class Seen:
    """What one browser shows.

    Attributes:
        group_id: the group on the card, None for the empty state and between two tasks.
        turn: how many cards it has had.
        heard: how many answers it has had.
        in_trouble: whether the empty state stands for a disk that took no lease.
        notice: the sentence on the card about why it is shown.
        is_judged: whether the group on the card was judged before.
        is_practice: whether the group on the card is one to practise on, or the last one was.
        pauses: whether it says how something went, until the annotator goes on.
        held: items that others hold, as the empty state says it.
    """

    group_id: str | None = None
    turn: int = 0
    heard: int = 0
    in_trouble: bool = False
    notice: str = ""
    is_judged: bool = False
    is_practice: bool = False
    pauses: bool = False
    held: tuple[int, int] = (0, 0)


def build(page: gr.Blocks, services: Services) -> None:
    """Adds the page to `page`."""
    topbar.build(page, PATH, services)
    words = json.dumps({key: t(f"rate.{key}") for key in _SAID_BY_CARD})
    with gr.Column(elem_classes="page", elem_id="rate-page"):
        live("rate-words", render("rate_words.html", words=words))
        card = live("card", js=_SCRIPTS)
        side = live("desk", js="rate_desk.js")
    seen, asked = gr.State(Seen()), gr.State(0)
    one_at_a_time = threading.Lock()

    def who(request: gr.Request) -> User:
        return person_of(services.db, request)

    def load(request: gr.Request) -> tuple[Seen, str, str]:
        person = who(request)
        beside = desk.html(services, person, rating_rules.get_rules(services.db))
        return *opened(services, person.id, request.query_params.get("group")), beside

    def answer(state: Seen, event: gr.EventData, request: gr.Request) -> tuple[Any, Any]:
        with a_turn(one_at_a_time):
            return answered(services, who(request).id, state, str(event.act), event)

    def look(state: Seen, event: gr.EventData, request: gr.Request) -> tuple[Any, Any]:
        person = who(request).id
        return ticked(services, person, resumed(services, person, state, event))

    def stay(event: gr.EventData, request: gr.Request) -> None:
        ratings.stay(services.db, who(request).id, str(event.group))

    def prefer(count: int, event: gr.EventData, request: gr.Request) -> tuple[Any, Any]:
        return preferred(services, who(request), count + 1, str(event.what), event.value)

    def practise(state: Seen, request: gr.Request) -> tuple[Any, Any]:
        return show(services, who(request).id, state, rating_card.practice(services.db, who(request).id))

    page.load(load, None, [seen, card, side], **HIDDEN)
    # past Gradio's queue, which looks for work every 50 ms: a vote should feel like a key press
    card.answer(answer, seen, [seen, card], trigger_mode="multiple", queue=False, **HIDDEN)
    # an empty card asks by itself, with what it shows: a timer would not know it after a restart of the web
    card.look(look, seen, [seen, card], queue=False, **HIDDEN)
    card.stay(stay, None, None, queue=False, **HIDDEN)
    card.prefer(prefer, asked, [asked, side], trigger_mode="multiple", queue=False, **HIDDEN)
    side.prefer(prefer, asked, [asked, side], trigger_mode="multiple", queue=False, **HIDDEN)
    side.practise(practise, seen, [seen, card], queue=False, **HIDDEN)


@contextmanager
def a_turn(one_at_a_time: threading.Lock) -> Iterator[None]:
    """Of fifty at once each would wait for all the others: one after the other, most are done long before.
    But where one is held up, the others do not wait for it and then for what holds it up."""
    has_turn = one_at_a_time.acquire(timeout=TURN_SECONDS)
    try:
        yield
    finally:
        if has_turn:
            one_at_a_time.release()


def preferred(services: Services, person: User, count: int, what: str, value: Any) -> tuple[Any, Any]:
    """Keeps a choice for the person; the desk says what holds now, and why a choice was refused."""
    rules = rating_rules.get_rules(services.db)
    try:
        person = rate_prefs.choose(services.db, person, what, value, rules)
    except SHOWN_ERRORS as error:
        return count, desk.html(services, person, rules, heard=count, problem=shown(error))
    return count, desk.html(services, person, rules, heard=count)


def show(
    services: Services, who: str, state: Seen, card: Card, progress: Progress | None = None, **words: Any
) -> tuple[Seen, str]:
    """The next card (a new turn), or the empty state.

    Args:
        progress: where it is known already.
    """
    group_id = card.view.group.id if card.view else None
    state = Seen(
        group_id,
        state.turn + 1,
        state.heard + 1,
        notice=card.notice,
        is_judged=card.is_judged,
        is_practice=card.is_practice,
        held=(card.waiting.count, rating_card.minutes_until(card.waiting)),
    )
    html = rating_card.card_html(
        card,
        progress or ratings.progress(services.db, who),
        turn=str(state.turn),
        heard=state.heard,
        ahead=rating_card.upcoming(services.db, who, group_id),
        pair=rating_card.pair_for(services.db, card, who),
        **words,
    )
    return state, html


def opened(services: Services, who: str, wanted: object) -> tuple[Seen, str]:
    """The first card. A disk that takes no lease leaves the page empty, with the reason; `ticked` goes on."""
    try:
        card = rating_card.start(services.db, who, wanted)
    except SHOWN_ERRORS as error:
        return again(services, who, Seen(in_trouble=True), problem=f"{shown(error)} {t('rate.waits')}")
    return show(services, who, Seen(), card)


def ticked(services: Services, who: str, state: Seen) -> tuple[Any, Any]:
    """A page without a group looks for one; one that has a group, or says how it went, is left alone."""
    if state.group_id is not None or state.pauses:
        return gr.skip(), gr.skip()
    try:
        card = rating_card.following(services.db, who)
    except SHOWN_ERRORS as error:
        if state.in_trouble:
            return gr.skip(), gr.skip()
        problem = f"{shown(error)} {t('rate.waits')}"
        return again(services, who, replace(state, in_trouble=True), problem=problem)
    held = card.waiting.count, rating_card.minutes_until(card.waiting)
    is_news = card.view or state.in_trouble or held != state.held
    return show(services, who, state, card) if is_news else (gr.skip(), gr.skip())


def answered(services: Services, who: str, state: Seen, act: str, event: Any) -> tuple[Any, Any]:
    """Keeps an answer and shows the next card. A refusal leaves the card, and what was chosen, as it is."""
    state = resumed(services, who, state, event)
    try:
        if act == "undo":
            undone = rating_card.undo(services.db, who, str(event.key))
            if undone is None:
                return again(services, who, state, saved=t("rate.nothing_to_undo"))
            return show(services, who, state, undone, saved=t("rate.undone"))
        if act == "go":
            further = rating_card.practice if state.is_practice else rating_card.onwards
            return show(services, who, state, further(services.db, who))
        if act == "skip" and state.is_judged:
            left = t("rate.left_as_it_was")
            return show(services, who, state, rating_card.following(services.db, who), saved=left)
        return kept(services, who, state, act, event)
    except SHOWN_ERRORS as error:
        return again(services, who, state, problem=shown(error))


def kept(services: Services, who: str, state: Seen, act: str, event: Any) -> tuple[Any, Any]:
    """What was said is kept; then the next card, or how it went where that is due."""
    said = read(event)
    keep = rating.skip if act == "skip" else rating.submit
    following = keep(services.db, who, said)
    saved = t("rate.skipped") if act == "skip" else t("rate.saved")
    if state.is_practice:
        return pause(
            state, lambda **at: rate_pause.practice_html(services.db, who, said.group_id, **at), saved
        )
    progress = ratings.progress(services.db, who)
    left = rating_card.left_in_batch(progress)
    if act != "skip" and left == rating_card.BATCH and not state.is_judged:
        return pause(state, lambda **at: rate_pause.batch_html(services.db, who, **at), saved)
    return show(services, who, state, rating_card.shown(services.db, who, following), progress, saved=saved)


def pause(state: Seen, html: Any, saved: str) -> tuple[Seen, str]:
    """Shows how something went; `html` renders it."""
    state = Seen(None, state.turn + 1, state.heard + 1, is_practice=state.is_practice, pauses=True)
    return state, html(turn=str(state.turn), heard=state.heard, saved=saved)


def read(event: Any) -> rating.Answer:
    """What the browser sent as an answer."""
    found = {
        name: getattr(event, name, None) for name in ("pair", "rank", "flags", "worst", "none", "reason")
    }
    return rating.read_answer(
        event.group,
        event.key,
        event.best or None,
        event.stars,
        event.lead_ms,
        none_good=found.pop("none"),
        **found,
    )


def resumed(services: Services, who: str, state: Seen, event: Any) -> Seen:
    """What the browser shows, where this process knows less of it: it was started again meanwhile."""
    turn, heard = getattr(event, "turn", 0), getattr(event, "heard", 0)
    if not isinstance(turn, int) or not isinstance(heard, int) or turn <= state.turn:
        return state
    group_id = str(event.group) or None
    try:
        found = rating_card.start(services.db, who, group_id) if group_id else Card(None)
    except SHOWN_ERRORS:  # the answer itself finds out, and says it
        found = Card(None)
    return Seen(group_id, turn, heard, is_judged=found.is_judged, is_practice=found.is_practice)


def again(services: Services, who: str, state: Seen, **words: Any) -> tuple[Seen, str]:
    """The same card once more, on the same turn, so that the browser keeps what was chosen."""
    state = replace(state, heard=state.heard + 1)
    progress = ratings.progress(services.db, who)
    view = services.group(state.group_id)
    card = Card(view, notice=state.notice, is_judged=state.is_judged, is_practice=state.is_practice)
    pair = rating_card.pair_for(services.db, card, who)
    html = rating_card.card_html(card, progress, turn=str(state.turn), heard=state.heard, pair=pair, **words)
    return state, html

"""Team: people, how rating is shared out, how far people agree, what was done here, and what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from ui.components import HIDDEN, live, news, render, sentence, topbar
from ui.people import person_of
from ui.services import SHOWN_ERRORS, Services, shown
from ui.team import (
    agreement,
    assignment,
    checking,
    counting,
    image_rules,
    log,
    people,
    quality,
    ratings,
    run_rules,
    storing,
)
from ui.team.common import PATH as PATH
from ui.team.common import TABS, Desk, Fields, Seen, Told, address, seen_of
from ui.usage import Usage

_TICK_SECONDS = 3.0
_ACTS = (
    people.ACTS | assignment.ACTS | checking.ACTS | counting.ACTS | run_rules.ACTS | image_rules.ACTS
    | ratings.ACTS
)  # fmt: skip
_FORMS = {
    "people": people.form,
    "assignment": assignment.form,
    "ratings": ratings.form,
    "audit": log.form,
    "storage": image_rules.with_those_of_runs,
}
_BODIES = {
    "people": people.body,
    "assignment": assignment.body,
    "agreement": agreement.body,
    "quality": quality.body,
    "ratings": ratings.body,
    "audit": log.body,
    "storage": storing.body,
}
_COUNTED = ("agreement", "quality")
"""Sections that show what the engine counts."""


@dataclass(frozen=True)
class Shown:
    """The parts of the page as HTML."""

    nav: str
    form: str
    body: str


class _Page:
    """The widgets and what they do; everything else is a plain function over rows."""

    def __init__(self, services: Services) -> None:
        self.services, self.usage = services, Usage(services.db.home)
        with gr.Column(elem_classes="page", elem_id="team-page"):
            self.nav = live("team-nav", js="team.js")
            self.message = live("team-message", js="link.js")
            self.form = live("team-form", js="team.js")
            self.body = live("team-body", js="team.js")
        self.seen, self.last = gr.State(Seen()), gr.State("")

    def wire(self, page: gr.Blocks) -> None:
        drawn = [self.seen, self.last, self.nav, self.message, self.form, self.body]
        page.load(self.load, None, drawn, **HIDDEN)
        for part in (self.nav, self.form, self.body):
            part.act(self.act, self.seen, drawn, **HIDDEN)
        gr.Timer(_TICK_SECONDS).tick(self.tick, [self.seen, self.last], [self.last, self.body], **HIDDEN)

    def desk(self, request: gr.Request) -> Desk:
        return Desk(self.services, self.usage, person_of(self.services.db, request))

    def load(self, request: gr.Request) -> tuple[Any, ...]:
        """What the address asks for."""
        return self.opened(self.desk(request), seen_of(request.query_params))

    def act(self, seen: Seen, event: gr.EventData, request: gr.Request) -> tuple[Any, ...]:
        """One click, or one form that was sent. A refusal leaves the form, and what was typed, as it is."""
        desk, act, fields = self.desk(request), str(event.act), dict(event.fields or {})
        if act == "open":
            return self.opened(desk, seen_of(fields))
        if act == "preview":
            seen = replace(seen, typed={name: str(value) for name, value in fields.items()})
            body = _BODIES[seen.tab](desk, seen)
            return seen, body, gr.skip(), "", gr.skip(), body
        said, problem = acted(desk, act, str(event.id), fields)
        seen = replace(seen, typed={}) if not problem else seen
        parts = shown_parts(desk, seen)
        message = sentence(problem) if problem else render("team_said.html", text=said, link=said.link)
        form = gr.skip() if problem else parts.form
        return seen, parts.body, gr.skip(), message, form, parts.body

    def opened(self, desk: Desk, seen: Seen) -> tuple[Any, ...]:
        """Another section, or another part of this one."""
        if seen.tab in _COUNTED:
            counting.ask_if_new(desk)
        parts = shown_parts(desk, seen)
        return seen, parts.body, parts.nav, "", parts.form, parts.body

    def tick(self, seen: Seen, last: str, request: gr.Request) -> tuple[Any, Any]:
        """Redraws what changed; forms stay as they are."""
        return news(_BODIES[seen.tab](self.desk(request), seen), last)


def build(page: gr.Blocks, services: Services) -> None:
    """Adds the page to `page`."""
    topbar.build(page, PATH, services)
    _Page(services).wire(page)


def shown_parts(desk: Desk, seen: Seen) -> Shown:
    """A section as it stands now."""
    nav = render("team_nav.html", tabs=TABS, here=seen.tab, address=address)
    form = _FORMS[seen.tab](desk, seen) if seen.tab in _FORMS else ""
    return Shown(nav, form, _BODIES[seen.tab](desk, seen))


def acted(desk: Desk, act: str, target: str, fields: Fields) -> tuple[Told, str]:
    """Does one act: (what was done, why it was not), one of them empty. Every act checks the role itself."""
    known: Mapping[str, Any] = _ACTS
    if act not in known:
        return Told(""), shown(f"there is no act {act!r} on this page: reload it")
    try:
        told = known[act](desk, target, fields)
        return (told if isinstance(told, Told) else Told(told)), ""
    except SHOWN_ERRORS as error:
        return Told(""), shown(error)

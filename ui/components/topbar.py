"""The bar on top of every page: where you are, what the engine does, what waits for you, and who you are."""

from __future__ import annotations

from typing import Any

import gradio as gr

from storage import accounts, exclusion, users
from storage.exclusion import Exclusion
from storage.models import User
from ui.components import HIDDEN, keys, live, news, render
from ui.language import t
from ui.people import person_of
from ui.roles import MAY, may, may_open
from ui.services import EngineStatus, Services

PAGES = ("/", "/rate", "/compare", "/train", "/library", "/team")
BLIND = "/blind"
"""A page of the bar for whom Compare, which leads there, is closed."""
_SECONDS = 2.0
_UNKNOWN = EngineStatus("Engine", "")


def build(page: gr.Blocks, here: str, services: Services) -> None:
    """Adds the bar to the page at path `here`; it redraws itself when what it says changes."""

    def tick(shown: str, request: gr.Request) -> tuple[object, object]:
        return news(html(services, here, person_of(services.db, request)), shown)

    gr.Navbar(visible=False)
    first = _html(_UNKNOWN, here, None, [])  # stays as long as the web lives; what is now comes with the load
    bar = live("topbar", first, "topbar.js")
    live("keys", keys.keys_html(here))
    last = gr.State(first)
    timer = gr.Timer(_SECONDS)
    page.load(tick, last, [bar, last], **HIDDEN)
    timer.tick(tick, last, [bar, last], **HIDDEN)


def html(services: Services, here: str, person: User | None = None) -> str:
    """Renders the bar of the page at path `here`, with what the engine said when it ended."""
    has_accounts = accounts.are_in_force(services.db)
    everybody = users.list_users(services.db)
    out = exclusion.exclusions(services.db).get(person.id) if person else None
    return _html(services.engine(), here, person, everybody, out, has_accounts=has_accounts)


def _html(
    status: EngineStatus,
    here: str,
    person: User | None,
    everybody: list[User],
    out: Exclusion | None = None,
    *,
    has_accounts: bool = False,
) -> str:
    """`out`: why the person's votes do not count, which they are told on every page."""
    named: dict[str, Any] = vars(status)
    return render(
        "topbar.html",
        pages=[(name_of(path), path) for path in pages_of(person)],
        here=here,
        person=person,
        powers=" ".join(power for power in MAY if person is not None and may(person, power)),
        has_accounts=has_accounts,
        people=[] if has_accounts else [one for one in everybody if one.active],
        left_out=out,
        left_out_by=next((one.name for one in everybody if out and one.id == out.by), ""),
        **named,
    )


def pages_of(person: User | None) -> list[str]:
    """What the bar offers: what a role may open, all where nobody is known yet."""
    if person is None:
        return list(PAGES)
    offered = [path for path in PAGES if may_open(person, path)]
    return offered if may(person, "look") or not may(person, "rate") else [*offered, BLIND]


def name_of(path: str) -> str:
    """What a page is called."""
    return t(f"shell.{path.strip('/') or 'studio'}")

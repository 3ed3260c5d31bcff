"""Parts of a page that stand under tabs: `build(page, services)` each, as pages are.

Only the open tab is in the browser: another one's widgets are not, and its timers do not tick. What it would
load must not be sent either, since a blind test may be what is open: a part asks `is_open` before it loads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from storage.models import User
from ui.services import Services

Build = Callable[[gr.Blocks, Services], None]
TABS = ("grid", "axes", "blind", "leaderboard", "evaluations")
"""Tabs of /compare, as `?tab=` names them; the first one is open where it names none of them."""


def open_tab(request: Any) -> str:
    """The tab that the address of a request (FastAPI's or Gradio's) opens."""
    asked = str(request.query_params.get("tab", ""))
    return asked if asked in TABS else TABS[0]


def is_open(request: Any, tab: str) -> bool:
    """Whether it opens this one."""
    return open_tab(request) == tab


def told(
    list_html: Callable[[Services, User, str, str], str],
    services: Services,
    person: User,
    chosen: str,
    problem: str,
) -> tuple[str, str, str]:
    """(the chosen one, its markup without a problem, the markup): a problem stays until there is news."""
    calm = list_html(services, person, chosen, "")
    return chosen, calm, list_html(services, person, chosen, problem) if problem else calm

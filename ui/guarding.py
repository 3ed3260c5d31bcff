"""Every handler of every page asks first who calls it. Hidden widgets and private names guard nothing."""

from __future__ import annotations

import functools
import html
from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.context import LocalContext

from storage.engine import Database
from storage.models import User
from ui.people import NotLoggedIn, person_of
from ui.roles import Power, may, need_of, refusal


def guard(pages: gr.Blocks, db: Database) -> None:
    """Puts the question before each function that a browser or a client can have called."""
    for listener in pages.fns.values():
        if listener.fn is not None:
            listener.fn = guarded(listener.fn, db)


def guarded(fn: Callable[..., Any], db: Database) -> Callable[..., Any]:
    """The same function, refused with a sentence to whom it is not for."""

    @functools.wraps(fn)
    def asked(*args: Any, **named: Any) -> Any:
        event = next((one for one in args if isinstance(one, gr.EventData)), None)
        act = event._data.get("act", "") if event is not None and isinstance(event._data, dict) else ""
        check(db, LocalContext.request.get(None), need_of(fn, str(act)))
        return fn(*args, **named)

    return asked


def caller(db: Database) -> User:
    """Who has the function called that runs now; "local" outside of a request."""
    return person_of(db, LocalContext.request.get(None))


def demand(db: Database, power: Power) -> None:
    """Raises `gr.Error` where who has the function called that runs now has not this power."""
    check(db, LocalContext.request.get(None), power)


def check(db: Database, request: Any, power: Power) -> None:
    """Raises `gr.Error` where who sent a request has not this power.

    Args:
        request: Gradio's; None for a call without a browser.
    """
    try:
        person = person_of(db, request)
    except NotLoggedIn as error:
        raise gr.Error(html.escape(str(error)), print_exception=False) from error
    if not may(person, power):
        raise gr.Error(html.escape(refusal(person, power)), print_exception=False)

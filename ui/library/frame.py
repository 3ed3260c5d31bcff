"""The frame of the Library: its tabs, and which of them an address shows."""

from __future__ import annotations

from storage.models import User
from ui.components import render
from ui.forms import Refused
from ui.language import t
from ui.library import bases, checkpoint_list, datasets, images, prompt_sets, rewards
from ui.library.shelf import Done, Fields, Tab, parsed, size_words, when
from ui.services import Services

TABS: tuple[Tab, ...] = (
    images.TAB,
    prompt_sets.TAB,
    checkpoint_list.TAB,
    bases.TAB,
    rewards.TAB,
    datasets.TAB,
)


def tab_of(query: str) -> Tab:
    """The tab that an address names; the first where it names none that there is."""
    wanted = parsed(query).get("tab")
    return next((tab for tab in TABS if tab.name == wanted), TABS[0])


def html(services: Services, query: str, turn: int) -> str:
    """Renders the page at an address.

    Args:
        turn: counts what was done; the browser forgets what was typed when it grows.
    """
    tab = tab_of(query)
    return render(
        "library/frame.html",
        tabs=[(one.name, t(f"library.{one.name}")) for one in TABS],
        tab=tab.name,
        query=query,
        turn=turn,
        when=when,
        size_words=size_words,
        **tab.view(services, parsed(query)),
    )


def act(services: Services, person: User, name: str, query: str, fields: Fields) -> Done:
    """Does what a button or a form asks for.

    Raises:
        Refused and the like (`SHOWN_ERRORS`): a sentence about what stands against it.
    """
    wanted = tab_of(query).acts.get(name)
    if wanted is None:
        raise Refused("This page is older than the studio: reload it.")
    return wanted(services, person, fields)

"""A form under a tab is filled while its widgets are still being put into the page: what got lost on the way
is sent again, and nothing that a person has typed meanwhile is touched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

SECONDS = 0.5
"""Between two looks at the form."""
LOOKS = 40
GOOD_LOOKS = 6
"""In a row, until the form counts as filled: a dropdown that is put into the page again forgets."""


@dataclass(frozen=True)
class Asked:
    """What the form is to hold.

    Attributes:
        query: of the address.
        looks: how often was looked.
        good: how many of the last looks found nothing lost.
    """

    query: dict[str, str]
    looks: int = 0
    good: int = 0


def again(wanted: Sequence[Any], first: Sequence[Any], typed: Sequence[Any]) -> list[Any] | None:
    """What to send once more, a skip for every widget that is as it should be or was changed; None where that
    is all of them.

    Args:
        wanted: values, dropdowns with their choices, or skips.
        first: what the widgets were built with.
        typed: what they hold now.
    """
    lost = [
        not _is_skip(one) and _is_as_built(now, start) and start != _value(one)
        for one, start, now in zip(wanted, first, typed, strict=True)
    ]
    if not any(lost):
        return None
    return [one if is_lost else gr.skip() for one, is_lost in zip(wanted, lost, strict=True)]


def look(
    asked: Asked | None,
    values: Callable[[dict[str, str]], list[Any]],
    first: Sequence[Any],
    typed: Sequence[Any],
) -> tuple[Any, ...]:
    """One look of a timer: (asked, the timer, what to send once more). It ends when the form is filled.

    Args:
        asked: None before the address is known.
        values: what the widgets hold at an address.
    """
    kept = [gr.skip()] * len(typed)
    if asked is None:
        return gr.skip(), gr.skip(), *kept
    if asked.looks >= LOOKS or asked.good >= GOOD_LOOKS:
        return gr.skip(), gr.Timer(active=False), *kept
    sent = again(values(asked.query), first, typed)
    good = 0 if sent else asked.good + 1
    return Asked(asked.query, asked.looks + 1, good), gr.skip(), *(sent or kept)


def _is_as_built(now: Any, start: Any) -> bool:
    """An empty dropdown says None, or a list of nothing, or no text."""
    return bool(now == start) or (now in (None, "", []) and start in (None, "", []))


def _value(wanted: Any) -> Any:
    return wanted.constructor_args.get("value") if isinstance(wanted, gr.Dropdown) else wanted


def _is_skip(wanted: Any) -> bool:
    return isinstance(wanted, dict)

"""What the tabs of the Library have in common: the address that they read, and what an act answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

from storage.models import User
from ui.services import Services

Query = Mapping[str, str]
"""What the address says, each name once."""
Fields = Mapping[str, Any]
"""What a form or a button sent: text, or a list of texts where several boxes share a name."""
MAX_QUERY = 4_000
"""Characters of an address that are read."""


@dataclass(frozen=True)
class Done:
    """What came of an act.

    Attributes:
        words: a sentence about it; empty where what is shown says enough.
        query: the address to show now; None stays where we are.
        preview: template and values of something to look at before it is done for good; nothing is redrawn.
    """

    words: str = ""
    query: Query | None = None
    preview: tuple[str, Mapping[str, Any]] | None = None


Act = Callable[[Services, User, Fields], Done]


@dataclass(frozen=True)
class Tab:
    """One tab.

    Attributes:
        view: the values of its template, library/<name>.html, for an address.
        acts: what can be done there, by the name that the button or form has.
        is_live: whether what it shows changes by itself, while the engine works on something.
    """

    name: str
    view: Callable[[Services, Query], Mapping[str, Any]]
    acts: Mapping[str, Act] = field(default_factory=dict)
    is_live: bool = False


def parsed(query: str) -> dict[str, str]:
    """The names and values of an address; of several values of one name the last."""
    return {name: value.strip() for name, value in parse_qsl(query[:MAX_QUERY]) if value.strip()}


def address(query: Query) -> str:
    """The text of an address; names without a value are left out."""
    return urlencode({name: value for name, value in query.items() if value})


def text_of(fields: Fields, name: str) -> str:
    """What stands in a box, without outer blanks; empty where there is none."""
    value = fields.get(name)
    return value.strip() if isinstance(value, str) else ""


def texts_of(fields: Fields, name: str) -> list[str]:
    """What several boxes of one name say."""
    value = fields.get(name)
    found = value if isinstance(value, list) else [value]
    return [one for one in found if isinstance(one, str) and one]


def when(moment: datetime | None) -> str:
    """A time of this machine's clock, to the minute."""
    return "" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M}"


def size_words(size: int) -> str:
    """Bytes as people say them: 512 B, 8.4 MB, 6.9 GB."""
    amount, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"

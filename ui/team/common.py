"""What all sections of the Team page share: what a browser looks at, who may change it, times in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from storage.models import User
from ui.components import span
from ui.forms import Refused
from ui.language import t
from ui.services import Services
from ui.usage import Usage

PATH = "/team"
TABS = ("people", "assignment", "agreement", "quality", "ratings", "audit", "storage")
_ASKED = ("person", "group", "who", "act", "before")
_NOW_SECONDS, _DAY = 45, 24 * 3600


@dataclass(frozen=True)
class Seen:
    """What one browser looks at. All but `typed` stands in the address.

    Attributes:
        person: whom the form is about (user id).
        group: which group is made a check item.
        who, act, before: filters of the log, and where its page begins.
        typed: what stands in the form of assignment and is not saved yet.
    """

    tab: str = TABS[0]
    person: str = ""
    group: str = ""
    who: str = ""
    act: str = ""
    before: str = ""
    typed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Desk:
    """What every section works with.

    Attributes:
        me: who sits at the browser.
    """

    services: Services
    usage: Usage
    me: User

    @property
    def is_admin(self) -> bool:
        return self.me.role == "admin"


class Told(str):
    """What an act did, in words, and an address that is shown once."""

    link: str = ""

    @classmethod
    def once(cls, text: str, link: str) -> Told:
        """Words with such an address."""
        told = cls(text)
        told.link = link
        return told


Fields = Mapping[str, Any]
"""What a form holds, by the names of its inputs."""


def seen_of(query: Mapping[str, Any]) -> Seen:
    """What an address asks for; an unknown section is the first one."""
    tab = str(query.get("tab") or "")
    person, group, who, act, before = (str(query.get(name) or "") for name in _ASKED)
    return Seen(tab if tab in TABS else TABS[0], person, group, who, act, before)


def address(tab: str, **asked: str) -> str:
    """Where a section is found, with what it is asked for."""
    return f"{PATH}?{urlencode({'tab': tab} | {name: value for name, value in asked.items() if value})}"


def check_admin(desk: Desk, what: str) -> None:
    """Raises `Refused` unless an admin sits here.

    Args:
        what: as in "cannot change people".
    """
    if not desk.is_admin:
        raise Refused(f"Your role ({desk.me.role}) cannot {what}. Ask an admin.")


def ago(then: datetime | None, now: datetime) -> str:
    """How long ago, in words; "never" for None."""
    if then is None:
        return t("team.never")
    seconds = max(0.0, (now - then).total_seconds())
    if seconds < _NOW_SECONDS:
        return t("team.just_now")
    if seconds >= 2 * _DAY:
        return t("team.days_ago", days=int(seconds // _DAY))
    return t("team.ago", span=span(max(seconds, 90.0)))


def share(value: Sequence[float | None]) -> str:
    """ "68% (61 to 75%)" of a value with the ends of its interval; the value alone where it has none."""
    middle, low, high = value
    if middle is None:
        return ""
    if low is None or high is None:
        return f"{middle:.0%}"
    return t("team.share", value=f"{middle:.0%}", low=f"{100 * low:.0f}", high=f"{high:.0%}")


def spot(value: Sequence[float | None]) -> str:
    """Where an interval lies on a track from 0 to 100%, as a style."""
    low, high = (0.0 if value[1] is None else value[1]), (1.0 if value[2] is None else value[2])
    return f"left:{100 * low:.1f}%;width:{max(100 * (high - low), 1):.1f}%"

"""What somebody chose for their own rating: keys, modes, how the card behaves. Kept with the person."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from storage import users
from storage.engine import Database
from storage.models import User
from storage.rating_rules import OFFERED_MODES, Rules, checked
from ui.forms import Refused
from ui.language import t

KEYS: Mapping[str, str] = {
    "submit": "enter",
    "skip": "s",
    "undo": "u",
    "flags": "f",
    "zoom": "z",
    "flip": "space",
    "mode": "m",
    "none": "0",
    "left": "a",
    "right": "d",
    "tie": "t",
    "bad": "b",
    "guide": "h",
    "keys": "k",
}
"""Act to its key as the browser names it, in small letters, with "space" for the blank."""
NAMED = ("enter", "space", "delete", "insert", "home", "end", "pageup", "pagedown")
"""Keys of more than one letter that an act may have."""
TAKEN: Mapping[str, str] = {**dict.fromkeys("123456789", "digits"), "?": "help", "/": "prompt", "g": "pages"}
"""Keys that are never free, and the words for why."""


@dataclass(frozen=True)
class Preferences:
    """What the card needs to know of a person.

    Attributes:
        keys: act to key, of every act.
        modes: that M goes through, one at least.
        mode: that the card opens in.
        auto: whether the best image is saved as soon as it is picked.
        single: whether keys without Ctrl do anything.
        has_read: whether they closed the guidelines that hold now.
    """

    keys: dict[str, str]
    modes: list[str]
    mode: str
    auto: bool
    single: bool
    has_read: bool


def of(person: User, rules: Rules) -> Preferences:
    """What a person chose, with the studio's choice where they chose nothing."""
    kept = person.preferences or {}
    modes: list[str] = list(kept.get("modes") or rules.modes)
    mode = kept.get("mode")
    return Preferences(
        keys={**KEYS, **kept.get("keys", {})},
        modes=modes,
        mode=mode if mode in modes else modes[0],
        auto=bool(kept.get("auto_best")),
        single=not kept.get("keys_off"),
        has_read=kept.get("guidelines_read") == digest(rules.guidelines),
    )


def choose(db: Database, person: User, what: str, value: Any, rules: Rules) -> User:
    """Keeps one choice; raises `Refused` with a sentence for one that cannot be."""
    kept: dict[str, Any]
    if what == "key":
        kept = {"keys": with_key(of(person, rules).keys, value)}
    elif what == "keys":
        kept = {"keys": {}}
    elif what in ("modes", "mode"):
        kept = {what: _modes(value, what)}
    elif what == "auto":
        kept = {"auto_best": value is True}
    elif what == "single":
        kept = {"keys_off": value is not True}
    elif what == "read":
        kept = {"guidelines_read": digest(rules.guidelines)}
    else:
        raise Refused("There is no such choice: reload the page.")
    return users.prefer(db, person.id, **kept)


def with_key(keys: Mapping[str, str], value: Any) -> dict[str, str]:
    """The keys with one changed; refused where the key already does something."""
    act, key = (value.get("act"), value.get("key")) if isinstance(value, Mapping) else (None, None)
    if not isinstance(act, str) or act not in KEYS or not isinstance(key, str):
        raise Refused("There is no such key or act: reload the page.")
    if key in TAKEN:
        raise Refused(t("rate.key_taken", press=name_of(key), act=t(f"rate.taken_{TAKEN[key]}")))
    if key not in NAMED and (len(key) != 1 or not key.isprintable() or key.isspace()):
        raise Refused(t("rate.key_unfit", press=key[:20]))
    other = next((one for one, its in keys.items() if its == key and one != act), None)
    if other is not None:
        raise Refused(t("rate.key_taken", press=name_of(key), act=t(f"rate.act_{other}")))
    return {**keys, act: key}


def name_of(key: str) -> str:
    """A key as it is written on the page."""
    return key.upper() if len(key) == 1 else key.capitalize()


def as_json(chosen: Preferences) -> dict[str, Any]:
    """For the browser."""
    return asdict(chosen)


def digest(text: str) -> str:
    """By which somebody's reading of the guidelines is remembered: they open again when they change."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _modes(value: Any, what: str) -> Any:
    try:
        found = checked(OFFERED_MODES, value if what == "modes" else [value])
    except ValueError as error:
        raise Refused(t("rate.one_mode")) from error
    return found if what == "modes" else found[0]

"""The words the starter knows: slots, their tags, and what each tag draws.

A *slot* is one attribute of a portrait ("hair colour"); its *values* are Danbooru-style tags. A prompt names
some of them; `parse_prompt` says which, `unknown_words` what is left. No torch here: the web reads it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

HAIR_COLOURS: Mapping[str, str] = {
    "black hair": "#1d1a1c", "brown hair": "#7a4a22", "blonde hair": "#f0d36b", "red hair": "#cc2f1d",
    "green hair": "#3fae3a", "blue hair": "#3a5fd0", "pink hair": "#f28bb8", "purple hair": "#7b3fa6",
}  # fmt: skip
SKINS: Mapping[str, str] = {"pale skin": "#fbdcc0", "tan skin": "#cf8f54", "dark skin": "#6d3b16"}
BACKGROUNDS: Mapping[str, str] = {
    "white background": "#ffffff", "blue background": "#6db4f2", "yellow background": "#ffe06b",
    "green background": "#8fdc7c", "pink background": "#ffb3cf", "purple background": "#bd9af0",
}  # fmt: skip
HAIR_STYLES: Mapping[str, tuple[str, ...]] = {
    "long hair": ("long05", "long07", "long09", "long17", "long06"),
    "short hair": ("short01", "short08", "short09", "short11", "short10"),
    "curly hair": ("short03", "short17", "short18"),
    "buns": ("long11", "long13", "long23"),
    "ponytail": ("long19",),
    "pigtails": ("long15", "long14"),
}
EYEWEAR: Mapping[str, tuple[str, ...]] = {
    "glasses": ("variant04", "variant05", "variant02"),
    "sunglasses": ("variant01",),
}
MOUTHS: Mapping[str, tuple[str, ...]] = {
    "smile": ("variant22", "variant23", "variant05"),
    "open mouth": ("variant15", "variant25", "variant28"),
    "serious": ("variant09", "variant10", "variant04"),
}
DETAILS: Mapping[str, str] = {"blush": "blush", "mustache": "mustache"}
EYES = ("variant01", "variant03", "variant04", "variant24", "variant26", "variant08")
EYEBROWS = ("variant02", "variant05", "variant07", "variant09", "variant10", "variant12")


@dataclass(frozen=True)
class Slot:
    """One attribute of a portrait.

    Attributes:
        name: what the slot is called on the screen and in reports.
        values: its tags, in a fixed order; a label is an index into `labels`.
        absent: what it means when no tag is given: a label of its own ("no eyewear"), or `None` for "free".
    """

    name: str
    values: tuple[str, ...]
    absent: str | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, the absent one first."""
        return ((self.absent,) if self.absent else ()) + self.values


SLOTS: tuple[Slot, ...] = (
    Slot("hair style", tuple(HAIR_STYLES)),
    Slot("hair colour", tuple(HAIR_COLOURS)),
    Slot("skin", tuple(SKINS)),
    Slot("eyewear", tuple(EYEWEAR), absent="no eyewear"),
    Slot("mouth", tuple(MOUTHS)),
    Slot("detail", tuple(DETAILS), absent="no detail"),
    Slot("background", tuple(BACKGROUNDS)),
)
SUBJECT = "portrait"
TAG_SLOT: Mapping[str, str] = {tag: slot.name for slot in SLOTS for tag in slot.values}
KNOWN_WORDS: frozenset[str] = frozenset(word for tag in (*TAG_SLOT, SUBJECT) for word in tag.split())

Attributes = dict[str, str]
"""Slot name -> label. A slot that is missing is free: any value is right."""


def parse_prompt(prompt: str) -> Attributes:
    """Reads the asked attributes from a comma-separated prompt; the last tag of a slot wins.

    A prompt that names none of the starter's tags asks for nothing, so nothing can be verified: `{}`.
    Otherwise an optional slot that is not named asks for its absence.
    """
    tags = [re.sub(r"[\s_]+", " ", tag).strip().lower() for tag in prompt.split(",")]
    asked: Attributes = {TAG_SLOT[tag]: tag for tag in tags if tag in TAG_SLOT}
    if asked:
        asked = {slot.name: slot.absent for slot in SLOTS if slot.absent} | asked
    return asked


def unknown_words(prompt: str) -> list[str]:
    """The words of a prompt that the starter has never seen, in order, once each."""
    words = re.findall(r"[a-z]+", prompt.lower().replace("_", " "))
    return list(dict.fromkeys(word for word in words if word not in KNOWN_WORDS))


NAMED_OPTIONAL = 0.25
"""Share of open prompts that name an attribute that may be absent, for each of those."""


def open_prompts(count: int, rng: random.Random, avoid: Collection[str] = ()) -> list[str]:
    """Prompts that name an attribute or two and leave the others open, to taste; each once."""
    found: dict[str, None] = {}
    free = [slot for slot in SLOTS if not slot.absent]
    while len(found) < count:
        tags = [rng.choice(slot.values) for slot in rng.sample(free, rng.choice((1, 1, 2)))]
        for slot in SLOTS:
            if slot.absent and rng.random() < NAMED_OPTIONAL:
                tags.append(rng.choice(slot.values))
        prompt = ", ".join([SUBJECT, *tags])
        if prompt not in avoid:
            found[prompt] = None
    return list(found)

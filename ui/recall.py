"""The settings that an image carries, read back: ours, A1111's and those of programs that write like it, and
SwarmUI's.

What a text says is a stranger's: every value is checked before it stands in a form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from flowgrpo.config import MAX_PROMPT_LENGTH, MAX_SEED, SamplingConfig
from ui.forms import Refused

OURS: Final = "flowgrpo"
A1111: Final = "parameters"
SWARM: Final = "sui_image_params"
SOURCES: Final = ("A1111", "FlowGRPO Studio", "SwarmUI")
MAX_TEXT: Final = 100_000
"""Characters of a text that are looked at."""
NOTHING = (
    "This image says nothing of how it was made: many chats and pages take that out. Choose the file as it "
    "was saved, one made here or with A1111, Forge, SwarmUI or another program that writes A1111's text."
)
_LEAST_SETTINGS = 3
"""A1111 takes a last line with fewer for a part of the prompt."""
_SETTING = re.compile(r'\s*(\w[\w \-/]*):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
_NEGATIVE = "Negative prompt:"
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
_QUIET = ("Version", "RNG", "Model hash")
"""Settings that nobody misses."""


@dataclass(frozen=True)
class Recalled:
    """What was found.

    Attributes:
        source: the program whose way of writing it is.
        values: fields of the Studio's form (`ui.components.studio_form.TYPED`) to their values.
        model: what the program calls the model; empty where it does not say.
        left_out: settings, in the program's words, that the form has no field for.
    """

    source: str
    values: dict[str, Any]
    model: str = ""
    left_out: tuple[str, ...] = field(default=())


def read(texts: Mapping[str, str]) -> Recalled:
    """What the texts of an image say: keyword, such as `parameters`, to text.

    Raises:
        Refused: nothing, or nothing that can be read.
    """
    told = {key: text[:MAX_TEXT] for key, text in texts.items() if text.strip()}
    if OURS in told and (ours := _json(told[OURS])) is not None:
        return _of_ours(ours)
    text = told.get(A1111, "")
    if not text:
        raise Refused(NOTHING)
    swarm = _json(text)
    if swarm is not None and isinstance(swarm.get(SWARM), dict):
        return _of_swarm(swarm[SWARM])
    return of_a1111(text)


def of_page(text: str) -> Recalled:
    """What the page got as an answer and sends back with a click; it may have changed it.

    Raises:
        Refused: it is no such answer.
    """
    told = _json(text[:MAX_TEXT])
    if told is None or not isinstance(told.get("values"), dict):
        raise Refused(NOTHING)
    known = {key: value for key, value in told["values"].items() if key in _CHECKS}
    left = [word for one in told.get("left_out") or () if (word := _text(one))]
    source = told["source"] if told.get("source") in SOURCES else SOURCES[0]
    return Recalled(source, _checked(known), _text(told.get("model")) or "", tuple(left[:20]))


def of_a1111(text: str) -> Recalled:
    """Prompt, `Negative prompt:`, and a last line of at least three settings.

    Raises:
        Refused: there is no such line.
    """
    *lines, last = text.strip().split("\n")
    settings = {key.strip(): _unquoted(value) for key, value in _SETTING.findall(last)}
    if len(settings) < _LEAST_SETTINGS:
        raise Refused(NOTHING)
    at = next((i for i, line in enumerate(lines) if line.strip().startswith(_NEGATIVE)), len(lines))
    negative = "\n".join(lines[at:]).strip().removeprefix(_NEGATIVE).strip()
    found: dict[str, Any] = {"prompt": "\n".join(lines[:at]).strip(), "negative": negative}
    found |= {"num_steps": settings.pop("Steps", None), "guidance_scale": settings.pop("CFG scale", None)}
    found["seeds"] = settings.pop("Seed", None)
    if size := _SIZE.fullmatch(settings.pop("Size", "")):
        found |= {"width": size[1], "height": size[2]}
    model = settings.pop("Model", "")
    program = "FlowGRPO Studio" if "FlowGRPO" in settings.get("Version", "") else "A1111"
    quiet = {*_QUIET, *(["Sampler"] if settings.get("Sampler") == "Euler" else [])}
    left = (f"{key} {value}"[:80] for key, value in settings.items() if key not in quiet)
    return Recalled(program, _checked(found), model, tuple(left))


def _of_ours(told: Mapping[str, Any]) -> Recalled:
    names = {"negative_prompt": "negative", "seed": "seeds"}
    known = ("prompt", "negative_prompt", "seed", "num_steps", "guidance_scale", "width", "height")
    found = {names.get(key, key): told.get(key) for key in known}
    return Recalled("FlowGRPO Studio", _checked(found), _text(told.get("model")) or "")


def _of_swarm(told: Mapping[str, Any]) -> Recalled:
    names = {
        "prompt": "prompt", "negativeprompt": "negative", "seed": "seeds", "steps": "num_steps",
        "cfgscale": "guidance_scale", "width": "width", "height": "height",
    }  # fmt: skip
    found = {ours: told.get(theirs) for theirs, ours in names.items()}
    quiet = (*names, "model", "swarm_version", "aspectratio", "images", "date", "generation_time")
    left = (f"{key} {value}"[:80] for key, value in told.items() if key not in quiet)
    return Recalled("SwarmUI", _checked(found), _text(told.get("model")) or "", tuple(left))


def _json(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _unquoted(value: str) -> str:
    value = value.strip()
    if value.startswith('"') and isinstance(said := _string(value), str):
        return said
    return value


def _string(value: str) -> object:
    try:
        return json.loads(value)
    except ValueError:
        return None


def _checked(found: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are what their field takes; the others are left out."""
    checked = {key: _CHECKS[key](value) for key, value in found.items() if value is not None}
    return {key: value for key, value in checked.items() if value is not None}


def _text(value: object) -> str | None:
    return value[:MAX_PROMPT_LENGTH] if isinstance(value, str) else None


def _number(name: str, kind: type[int] | type[float]) -> Callable[[object], float | None]:
    """Reads a number that the setting of this name takes."""

    def read_number(value: object) -> float | None:
        try:
            number = kind(str(value))
            SamplingConfig.model_validate({name: number})
        except ValueError:
            return None
        return number

    return read_number


def _seed(value: object) -> str | None:
    word = str(value).strip()
    return word if word.isascii() and word.isdigit() and int(word[:12]) <= MAX_SEED else None


_CHECKS: Final[Mapping[str, Callable[[object], Any]]] = {
    "prompt": _text,
    "negative": _text,
    "seeds": _seed,
    "num_steps": _number("num_steps", int),
    "guidance_scale": _number("guidance_scale", float),
    "width": _number("width", int),
    "height": _number("height", int),
}

"""X/Y: one or two parameters of sampling over lists of values, all others fixed; an image for each pair."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowgrpo.config import MAX_SEED
from storage.finding import Wanted
from storage.models import Checkpoint
from ui import comparing, forms
from ui.comparing import LINE_BREAK, one_line
from ui.forms import GroupForm, Refused
from ui.language import t
from ui.services import Services, shown

KEYS = ("checkpoint", "prompt", "seed", "steps", "guidance", "width", "height", "negative")
"""What can be an axis; in the address, in saved grids, and as `axes.<key>` in the words."""
NONE = "none"
"""Y without an axis: one row."""
NOTHING = "–"
"""Stands for no negative prompt where they are written one a line."""
MAX_CELLS, MAX_VALUES = 400, 40
_WHOLE = {"seed": (0, MAX_SEED), "steps": (1, 150), "width": (16, 2048), "height": (16, 2048)}


@dataclass(frozen=True)
class Axis:
    """A parameter and its values, in order: numbers as they are written, checkpoints by id."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Spec:
    """All that decides the images of a grid; what is saved.

    Attributes:
        y: None for a single row.
        rest: the fixed parameters, as `Axis.values`; without those of the axes.
    """

    x: Axis
    y: Axis | None
    rest: Mapping[str, str]

    def dump(self) -> dict[str, Any]:
        """As a row keeps it."""
        axes = {
            name: {"axis": axis.key, "values": list(axis.values)} if axis else None
            for name, axis in (("x", self.x), ("y", self.y))
        }
        return {"kind": "axes", **axes, "rest": dict(self.rest)}

    @classmethod
    def load(cls, saved: Mapping[str, Any]) -> Spec:
        """Of a row that `dump` wrote."""
        x, y = (
            Axis(str(one["axis"]), tuple(map(str, one["values"]))) if one else None
            for one in (saved["x"], saved["y"])
        )
        if x is None:
            raise Refused("That saved grid has no X axis: choose another one.")
        return cls(x, y, {str(key): str(value) for key, value in saved["rest"].items()})


@dataclass(frozen=True)
class AxesForm:
    """The X/Y form as typed; `*_values` are for all axes but checkpoints, which are chosen from a list."""

    x: object = "steps"
    x_values: object = "4, 8, 16"
    x_checkpoints: object = ()
    y: object = "guidance"
    y_values: object = "1, 2, 3"
    y_checkpoints: object = ()
    checkpoint: object = None
    prompt: object = ""
    seed: object = 7
    steps: object = 8
    guidance: object = 1.0
    negative: object = ""
    width: object = None
    height: object = None


@dataclass(frozen=True)
class AxesPlan:
    """A checked grid.

    Attributes:
        columns, rows: labels; of a single row, the row's is empty.
        wanted: the image of each cell, row by row.
        fixed: what is the same everywhere, in words, without the prompts.
        prompt: the prompt of all cells; empty where it is an axis.
    """

    spec: Spec
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    wanted: tuple[tuple[Wanted, ...], ...]
    fixed: str
    prompt: str

    @property
    def flat(self) -> list[Wanted]:
        """All cells, row by row."""
        return [one for row in self.wanted for one in row]


def check(services: Services, form: AxesForm) -> AxesPlan:
    """Checks the form; raises `Refused` with the first thing that is wrong."""
    spec = spec_of(form)
    named = {"checkpoint": [spec.rest["checkpoint"]]} if "checkpoint" in spec.rest else {}
    named |= {axis.key: list(axis.values) for axis in (spec.x, spec.y) if axis}
    if not named["checkpoint"][0]:
        services.checkpoint(None)  # refuses
    known = {one.id: one for one in comparing.of_one_base(services, named["checkpoint"], MAX_VALUES)}
    facts = services.base_facts(next(iter(known.values())))

    def cell(x: str, y: str | None) -> Wanted:
        said = {**spec.rest, spec.x.key: x} | ({spec.y.key: y} if spec.y and y is not None else {})
        request = forms.check_group(_group(said), factor=facts.factor, size=facts.size)
        return Wanted(request.prompt, said["checkpoint"], request.config.model_dump(), request.seeds)

    rows: Sequence[str | None] = spec.y.values if spec.y else [None]
    fixed = [label(key, value, known) for key, value in spec.rest.items() if key != "prompt" and value]
    return AxesPlan(
        spec,
        tuple(label(spec.x.key, value, known) for value in spec.x.values),
        tuple(label(spec.y.key, value, known) for value in spec.y.values) if spec.y else ("",),
        tuple(tuple(cell(x, y) for x in spec.x.values) for y in rows),
        " · ".join(fixed),
        spec.rest.get("prompt", ""),
    )


def _group(said: Mapping[str, str]) -> GroupForm:
    return GroupForm(
        prompt=said["prompt"],
        negative=said["negative"],
        group_size=1,
        seeds=said["seed"],
        num_steps=said["steps"],
        guidance_scale=said["guidance"],
        width=said["width"],
        height=said["height"],
    )


def spec_of(form: AxesForm) -> Spec:
    """Reads axes and fixed values; the values of each alone are checked, not yet whether they go together."""
    x = _axis("X", form.x, form.x_values, form.x_checkpoints)
    y = None if form.y == NONE else _axis("Y", form.y, form.y_values, form.y_checkpoints)
    if y and x.key == y.key:
        raise Refused(f"X and Y are both “{t(f'axes.{x.key}')}”: choose another one for Y, or none.")
    count = len(x.values) * (len(y.values) if y else 1)
    if count > MAX_CELLS:
        raise Refused(
            f"{len(x.values)} by {len(y.values) if y else 1} are {count:,} images; a grid has at most "
            f"{MAX_CELLS}, so name fewer values."
        )
    taken = {axis.key for axis in (x, y) if axis}
    rest = {key: _fixed(key, getattr(form, key)) for key in KEYS if key not in taken}
    return Spec(x, y, rest)


def _axis(side: str, key: object, typed: object, chosen: object) -> Axis:
    if key not in KEYS:
        raise Refused(f"Choose what {side} runs over.")
    name = str(key)
    if name == "checkpoint":
        values = [str(one) for one in chosen] if isinstance(chosen, list | tuple) else []
    elif name in ("prompt", "negative"):
        values = list(_lines(name, typed))
    else:
        values = list(_numbers(name, typed, side))
    values = list(dict.fromkeys(values))
    if not values:
        raise Refused(f"{side} has no values: give at least one {t(f'axes.one_{name}')}.")
    if len(values) > MAX_VALUES:
        raise Refused(f"{side} has {len(values)} values; an axis takes at most {MAX_VALUES}.")
    return Axis(name, tuple(values))


def _lines(key: str, typed: object) -> Iterator[str]:
    for line in forms.prompt_lines(typed, "The values"):
        text = line.replace(LINE_BREAK, "\n").strip()
        if key == "negative":
            yield "" if text in (NOTHING, "-", "—") else forms.check_negative(text)
        elif text:
            yield forms.check_prompt(text)


def _numbers(key: str, typed: object, side: str) -> Iterator[str]:
    """Numbers apart by commas or blanks, and ranges such as 1-4."""
    text = re.sub(r"\s*[-–—]\s*", "-", str(typed or "").strip())
    for part in filter(None, re.split(r"[,;\s]+", text)):
        ends = re.fullmatch(r"(\d{1,10})-(\d{1,10})", part, re.ASCII)
        if not ends:
            yield _number(key, part)
            continue
        first, last = int(ends[1]), int(ends[2])
        if not 0 <= last - first < MAX_VALUES:
            raise Refused(
                f"{side}: “{part}” is no range of at most {MAX_VALUES} values. Write it as in 1-4, or list "
                "each value."
            )
        yield from (_number(key, str(value)) for value in range(first, last + 1))


def _number(key: str, typed: object) -> str:
    name = t(f"axes.{key}")
    if key == "guidance":
        return f"{forms.real(typed, name, 1, 30):g}"
    return str(forms.whole(typed, name, *_WHOLE[key]))


def _fixed(key: str, typed: object) -> str:
    if key == "prompt":
        return forms.check_prompt(typed)
    if key == "negative":
        return forms.check_negative(typed)
    if key == "checkpoint":
        return typed if isinstance(typed, str) else ""
    if key in ("width", "height") and typed in (None, ""):
        return ""
    return _number(key, typed)


def label(key: str, value: str, known: Mapping[str, Checkpoint]) -> str:
    """A value in words."""
    if key == "checkpoint":
        return known[value].name
    if key == "prompt":
        return value
    if key == "guidance" and float(value) == 1:
        return t("axes.label_no_guidance")
    if key == "negative" and not value:
        return t("axes.label_no_negative")
    return t(f"axes.label_{key}", value=value)


def name_of(spec: Spec) -> str:
    """ "Steps × guidance"."""
    x = t(f"axes.{spec.x.key}")
    return f"{x} × {t(f'axes.{spec.y.key}').lower()}" if spec.y else x


def form_of(spec: Spec) -> AxesForm:
    """The form that says this; what an axis takes the place of is as in an empty form."""
    said: dict[str, object] = {key: _field(key, value) for key, value in spec.rest.items()}
    for side, axis in (("x", spec.x), ("y", spec.y)):
        said[side] = axis.key if axis else NONE
        if axis and axis.key == "checkpoint":
            said[f"{side}_checkpoints"] = list(axis.values)
        elif axis:
            said[f"{side}_values"] = written(axis)
    return AxesForm(**said)


def _field(key: str, value: str) -> object:
    """A fixed value as its field of the form has it."""
    if key in _WHOLE:
        return int(value) if value else None
    return float(value) if key == "guidance" else value


def written(axis: Axis) -> str:
    """The values of an axis as they are typed."""
    if axis.key in ("prompt", "negative"):
        return "\n".join(one_line(value) or NOTHING for value in axis.values)
    return ", ".join(axis.values)


def opened(services: Services, grid_spec: Mapping[str, Any]) -> AxesForm:
    """The form of a saved grid; raises `Refused` where it cannot be read."""
    try:
        return form_of(Spec.load(grid_spec))
    except (KeyError, TypeError, AttributeError) as error:
        raise Refused(shown(f"that saved grid cannot be read ({error}): choose another one")) from error

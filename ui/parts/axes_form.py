"""The X/Y form: its widgets, and how it stands in the browser's address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any
from urllib.parse import urlencode

import gradio as gr

from storage import checkpoints, grids
from storage.models_studio import SavedGrid
from ui.axes import KEYS, NONE, NOTHING, AxesForm, Spec, opened, written
from ui.comparing import one_line
from ui.defaults import starter_prompts
from ui.language import t
from ui.parts.grid import size_fields
from ui.parts.grid_address import first_choice
from ui.services import Services

NAMES = tuple(field.name for field in fields(AxesForm))
"""Of the form's widgets, in the order in which handlers get them."""
SIDES = ("x", "y")
_LONGEST = 6000
"""Characters of an address."""


class AxesWidgets:
    """The left panel. Choices of checkpoints come when the tab is opened."""

    def __init__(self) -> None:
        first = AxesForm()
        made: dict[str, Any] = {}
        for side in SIDES:
            made |= _axis_widgets(side, str(getattr(first, side)), str(getattr(first, f"{side}_values")))
        gr.Markdown(t("axes.fixed"), elem_classes="note")
        made["checkpoint"] = gr.Dropdown([], label=t("axes.checkpoint"), elem_id="axes-checkpoint")
        made["prompt"] = gr.Textbox(
            starter_prompts()[1][0], label=t("axes.prompt"), lines=3, elem_id="axes-prompt"
        )
        with gr.Row(elem_classes="trio"):
            made["seed"] = gr.Number(first.seed, label=t("axes.seed"), precision=0, elem_id="axes-seed")
            made["steps"] = gr.Number(first.steps, label=t("axes.steps"), precision=0, elem_id="axes-steps")
            made["guidance"] = gr.Number(
                first.guidance, label=t("axes.guidance"), step=0.5, elem_id="axes-guidance"
            )
        with gr.Accordion(t("compare.more"), open=False, elem_id="axes-more"):
            made["negative"], made["width"], made["height"] = size_fields("axes")
        self.name = gr.Textbox(
            label=t("axes.name"), placeholder=t("axes.name_empty"), elem_id="axes-name", max_lines=1
        )
        self.all = [made[name] for name in NAMES]
        self.by_name = made


def _axis_widgets(side: str, key: str, values: str) -> dict[str, Any]:
    choices = [(t(f"axes.{one}"), one) for one in KEYS]
    if side == "y":
        choices = [(t("axes.none"), NONE), *choices]
    return {
        side: gr.Dropdown(
            choices, value=key, label=t(f"axes.{side}"), elem_id=f"axes-{side}", filterable=False
        ),
        f"{side}_values": gr.Textbox(
            values, label=t("axes.values"), info=t("axes.values_numbers"), elem_id=f"axes-{side}-values"
        ),
        f"{side}_checkpoints": gr.Dropdown(
            [],
            label=t("compare.checkpoints"),
            multiselect=True,
            visible=False,
            value=[],
            elem_id=f"axes-{side}-checkpoints",
        ),
    }


def looks(x: object, y: object) -> list[Any]:
    """How each widget of the form looks with these axes: what an axis runs over is not asked for again."""
    taken = {x, y}
    found: dict[str, Any] = {name: gr.skip() for name in NAMES}
    for side, key in (("x", x), ("y", y)):
        kind = key if key in ("prompt", "negative") else "numbers"
        info = t("axes.values_lines" if kind == "prompt" else f"axes.values_{kind}")
        lines = 1 if kind == "numbers" else 4
        found[f"{side}_values"] = gr.Textbox(visible=key not in ("checkpoint", NONE), info=info, lines=lines)
        found[f"{side}_checkpoints"] = gr.Dropdown(visible=key == "checkpoint")
    for key, widget in (("checkpoint", gr.Dropdown), ("prompt", gr.Textbox), ("negative", gr.Textbox)):
        found[key] = widget(visible=key not in taken)
    for key in ("seed", "steps", "guidance", "width", "height"):
        found[key] = gr.Number(visible=key not in taken)
    return [found[name] for name in NAMES]


def suggested(services: Services, key: str, checkpoint: object, prompt: object) -> str:
    """What the values of an axis start with."""
    if key in ("width", "height"):
        try:
            facts = services.base_facts(services.checkpoint(checkpoint))
        except ValueError:
            return ""
        return f"{facts.size}, {facts.size * 3 // 2 // facts.factor * facts.factor}"
    if key == "prompt":
        others = [line for line in starter_prompts()[1][:3] if line != prompt]
        return "\n".join([one_line(str(prompt)), *others][:3])
    return {"seed": "1-4", "steps": "4, 8, 16", "guidance": "1, 2, 3", "negative": f"{NOTHING}\nglasses"}.get(
        key, ""
    )


# The address


def saved_in(services: Services, query: Mapping[str, str]) -> SavedGrid | None:
    """The saved grid that the address names; None where it names none.

    Raises:
        LookupError: there is none of that id.
    """
    asked = query.get("grid", "")
    return grids.get_grid(services.db, asked) if asked else None


def opening(services: Services, query: Mapping[str, str]) -> AxesForm:
    """The form as the address asks for it: `?grid=` with a saved one, or field by field."""
    usual = first_choice(services)
    form = AxesForm(
        checkpoint=usual[-1] if usual else None,
        prompt=starter_prompts()[1][0],
        x_checkpoints=usual,
        y_checkpoints=usual,
    )
    try:
        saved = saved_in(services, query)
    except LookupError:
        return form
    if saved is not None:
        return _over(form, opened(services, saved.spec))
    said = {name: _read(name, query[name]) for name in NAMES if query.get(name)}
    said |= {side: getattr(form, side) for side in SIDES if said.get(side, NONE) not in (*KEYS, NONE)}
    return replace(form, **said)


def choices_for(services: Services, form: AxesForm) -> list[tuple[str, str]]:
    """(name, id) of every checkpoint, and of those that the form names and that cannot be used any more: why
    not is said of the grid."""
    known = services.choices()
    named = [form.checkpoint, *_listed(form.x_checkpoints), *_listed(form.y_checkpoints)]
    lost = {str(one) for one in named if one} - {one for _, one in known}
    return [*known, *((_name(services, one), one) for one in sorted(lost))]


def _listed(chosen: object) -> list[object]:
    return list(chosen) if isinstance(chosen, list | tuple) else []


def _name(services: Services, checkpoint_id: str) -> str:
    try:
        return checkpoints.get_checkpoint(services.db, checkpoint_id).name
    except LookupError:
        return checkpoint_id


def _over(form: AxesForm, said: AxesForm) -> AxesForm:
    """`said`, and from `form` what an axis takes the place of."""
    empty = AxesForm()
    own = {name: getattr(said, name) for name in NAMES if getattr(said, name) != getattr(empty, name)}
    return replace(form, **own)


def _read(name: str, value: str) -> object:
    if name.endswith("_checkpoints"):
        return [one for one in value.split(",") if one]
    if name in ("seed", "steps", "width", "height", "guidance"):
        try:
            return (float(value) if name == "guidance" else int(value)) if value else None
        except ValueError:
            return getattr(AxesForm(), name)
    return value


def address_of(spec: Spec, saved: SavedGrid | None) -> str:
    """The query that opens this grid again; empty where it is too long for one and not saved."""
    if saved is not None:
        return urlencode({"tab": "axes", "grid": saved.id})
    said: dict[str, str] = {}
    for side, axis in (("x", spec.x), ("y", spec.y)):
        said[side] = axis.key if axis else NONE
        if axis:
            is_list = axis.key == "checkpoint"
            said[f"{side}_checkpoints" if is_list else f"{side}_values"] = (
                ",".join(axis.values) if is_list else written(axis)
            )
    said |= {key: value for key, value in spec.rest.items() if value}
    query = urlencode({"tab": "axes", **said})
    return query if len(query) <= _LONGEST else ""

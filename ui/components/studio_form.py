"""The left panel of the Studio: what is asked for, in Gradio's own widgets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from flowgrpo.config import SamplingConfig
from ui import batches
from ui.forms import GroupForm
from ui.language import t
from ui.services import Services

FIRST_PROMPT = "portrait, long hair, red hair, pale skin, glasses, smile, blue background"
TYPED = ("prompt", "negative", "group_size", "seeds", "num_steps", "guidance_scale", "width", "height")
"""Widgets that are fields of a GroupForm."""
NAMES = ("checkpoint", *TYPED, "prompt_set", "chosen")
"""All widgets, in the order in which handlers get them."""
MAX_LISTED = 300
"""Prompts of a set that can be chosen one by one."""
_DEFAULTS = SamplingConfig()


class StudioForm:
    """The widgets, each under its name of NAMES."""

    def __init__(self, services: Services) -> None:
        choices = services.choices()
        self.prompt = gr.Textbox(
            FIRST_PROMPT,
            label=t("studio.prompt"),
            lines=4,
            max_lines=8,
            elem_id="prompt",
            placeholder=t("studio.prompt_hint"),
        )
        with gr.Accordion(t("studio.from_set"), open=False, elem_id="from-set"):
            self.prompt_set = gr.Dropdown(
                set_choices(services), value="", label=t("studio.set"), elem_id="prompt-set", filterable=False
            )
            self.chosen = gr.Dropdown(
                [], value=[], multiselect=True, label=t("studio.chosen"), elem_id="chosen", visible=False
            )
        self.checkpoint = gr.Dropdown(
            choices,
            value=[choices[-1][1]] if choices else [],
            multiselect=True,
            label=t("studio.checkpoints"),
            elem_id="checkpoint",
            filterable=False,
        )
        self._numbers()

    def _numbers(self) -> None:
        with gr.Row(elem_classes="trio"):
            self.group_size = gr.Number(8, label=t("studio.group_size"), precision=0, elem_id="group-size")
            self.num_steps = gr.Number(
                _DEFAULTS.num_steps, label=t("studio.steps"), precision=0, elem_id="steps"
            )
            self.guidance_scale = gr.Number(
                _DEFAULTS.guidance_scale, label=t("studio.guidance"), elem_id="guidance", step=0.5
            )
        self.seeds = gr.Textbox(
            label=t("studio.seeds_label"),
            placeholder=t("studio.seeds_hint"),
            elem_id="seeds",
            max_lines=2,
            info=t("studio.seeds_info"),
        )
        with gr.Accordion(t("studio.more_fields"), open=False, elem_id="more"):
            self.negative = gr.Textbox(
                label=t("studio.negative"), lines=2, elem_id="negative", placeholder=t("studio.nothing")
            )
            with gr.Row(elem_classes="trio"):
                as_base = t("studio.as_base")
                self.width = gr.Number(None, label=t("studio.width"), precision=0, placeholder=as_base)
                self.height = gr.Number(None, label=t("studio.height"), precision=0, placeholder=as_base)

    def inputs(self) -> list[Any]:
        """The widgets of NAMES."""
        return [getattr(self, name) for name in NAMES]

    def replaced(self, values: dict[str, Any]) -> dict[Any, Any]:
        """Updates of the widgets that these names have."""
        return {getattr(self, name): value for name, value in values.items()}


def read(typed: Sequence[Any]) -> dict[str, Any]:
    """What handlers get, by name."""
    return dict(zip(NAMES, typed, strict=True))


def group_form(values: dict[str, Any]) -> GroupForm:
    """The fields that a GroupForm has."""
    return GroupForm(**{name: values[name] for name in TYPED})


def set_choices(services: Services) -> list[tuple[str, str]]:
    """(name, id) of every prompt set, after the choice of none."""
    return [(t("studio.no_set"), ""), *batches.prompt_sets(services.db)]

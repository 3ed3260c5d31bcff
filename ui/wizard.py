"""The left panel of the Train page: a new run in five steps, each filled in with what works."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from flowgrpo.presets import STARTER_PRESETS
from ui import prompt_choice, recipes, tuning
from ui.components import live, render
from ui.defaults import starter_prompts
from ui.forms import FIRST_PRESET, RunForm
from ui.language import t
from ui.recipes import WAYS, ImagesForm
from ui.services import Services

STEPS = ("base", "prompts", "reward", "budget", "check")
_ABREAST = 3
"""Weights in a row; more would not show their numbers."""
NUMBERS = (
    "num_updates",
    "groups_per_update",
    "group_size",
    "num_steps",
    "guidance_scale",
    "learning_rate",
    "kl_weight",
    "rank",
)
"""What a preset fills beside the weights."""
NAMES = (
    "preset",
    "name",
    "prompts",
    "held_out",
    *NUMBERS,
    "seed",
    "people_minutes",
    "judges",
    "references",
)
"""Fields of a RunForm that have a widget of their own, in the order of `Wizard.inputs`."""
IMAGES = ("dataset", "folder", "num_updates", "batch_size")
"""Fields of an ImagesForm, likewise."""


class Wizard:
    """The widgets, in the order in which handlers get them."""

    def __init__(self, services: Services) -> None:
        first = tuning.preset_form(FIRST_PRESET, services.db)
        self.fields: dict[str, Any] = {}
        self.weights: dict[str, Any] = {}
        live("steps", render("steps.html", steps=STEPS), js="wizard.js")
        self.quick = live("quick", js="run.js")
        for number, build in enumerate(
            (self._base, self._prompts, self._reward, self._budget, self._check), 1
        ):
            with gr.Column(elem_classes=f"step step-{number}"):
                build(services, first)
        live("turn", render("turn.html"))
        self.plan = live("plan")
        self.go = gr.Button(t("train.start"), variant="primary", elem_id="start-run")
        self.message = live("message")

    def _base(self, services: Services, first: RunForm) -> None:
        choices = services.choices()
        self.checkpoint = gr.Dropdown(
            choices,
            value=base_of(choices),
            label=t("train.start_from"),
            elem_id="train-checkpoint",
            filterable=False,
        )
        ways = [(t(f"train.way_{way}"), way) for way in WAYS]
        self.way = gr.Radio(ways, value=WAYS[0], label=t("train.way"), elem_id="way")
        with gr.Column(visible=False, elem_id="stage-1") as self.stage:
            self._images(services)
        self._number("rank", first, t("train.rank"), elem_id="rank", precision=0)

    def _images(self, services: Services) -> None:
        """Stage 1: images that were dropped, or a folder, and how long they are looked at."""
        empty = ImagesForm()
        self.images = {
            "dataset": gr.Dropdown(
                recipes.dataset_choices(services.db),
                value=recipes.FOLDER,
                label=t("train.dataset"),
                elem_id="dataset",
                filterable=False,
            )
        }
        self.drop = live("drop", render("drop.html"), js="drop.js")
        self.images["folder"] = gr.Textbox(
            label=t("train.folder"), placeholder=t("train.folder_how"), elem_id="images-folder"
        )
        with gr.Row(elem_classes="trio"):
            for name, typed in (("num_updates", empty.num_updates), ("batch_size", empty.batch_size)):
                self.images[name] = gr.Number(
                    typed, label=t(f"train.images_{name}"), precision=0, elem_id=f"images-{name}"
                )

    def _prompts(self, services: Services, first: RunForm) -> None:
        train, held_out = starter_prompts()
        self.prompt_set = gr.Dropdown(
            prompt_choice.choices(services.db),
            value="",
            label=t("train.prompt_set"),
            elem_id="prompt-set",
            filterable=False,
        )
        self.fields["prompts"] = gr.Textbox(
            "\n".join(train), label=t("train.prompts"), lines=8, max_lines=8, elem_id="train-prompts"
        )
        self.fields["held_out"] = gr.Textbox(
            "\n".join(held_out), label=t("train.held_out"), lines=4, max_lines=4, elem_id="held-out",
            info=t("train.held_out_how"),
        )  # fmt: skip

    def _reward(self, services: Services, first: RunForm) -> None:
        live("weights-label", render("label.html", text=t("train.weights")))
        for names in (tuning.REWARDS[:_ABREAST], tuning.REWARDS[_ABREAST:]):
            with gr.Row(elem_classes="trio"):
                for name in names:
                    self.weights[name] = _weight(name, first)
        self.weights_from = live("weights-from")
        self.agreement = live("agreement")
        self.teaching = live("teaching", js="run.js")
        with gr.Accordion(t("train.more_rewards"), open=False):
            self.fields["judges"] = gr.Textbox(
                label=t("train.judges"), placeholder=t("train.judges_how"), elem_id="judges"
            )
            self.fields["references"] = gr.Textbox(
                label=t("train.references"), placeholder=t("train.references_how"), elem_id="references"
            )

    def _budget(self, services: Services, first: RunForm) -> None:
        self.fields["preset"] = gr.Radio(
            [(name.capitalize(), name) for name in STARTER_PRESETS],
            value=FIRST_PRESET,
            label=t("train.preset"),
            elem_id="preset",
        )
        with gr.Row(elem_classes="trio"):
            self._number("num_updates", first, t("train.updates"), elem_id="updates", precision=0)
            self._number("groups_per_update", first, t("train.groups"), elem_id="groups", precision=0)
            self._number("group_size", first, t("train.of_size"), elem_id="train-group-size", precision=0)
        self.cost = live("cost", js="run.js")
        with gr.Accordion(t("train.more"), open=False, elem_id="train-more"):
            with gr.Row(elem_classes="trio"):
                self._number("num_steps", first, t("train.num_steps"), precision=0)
                self._number("guidance_scale", first, t("train.guidance"), step=0.5)
                self._number("seed", first, t("train.seed_label"), precision=0)
            with gr.Row(elem_classes="trio"):
                self._number("learning_rate", first, t("train.learning_rate"), step=0.0001)
                self._number("kl_weight", first, t("train.kl_weight"), step=0.001)
            self._number("people_minutes", first, t("train.people"), elem_id="people-minutes")

    def _check(self, services: Services, first: RunForm) -> None:
        self.fields["name"] = gr.Textbox(
            label=t("train.name"), placeholder=t("train.name_how"), elem_id="run-name"
        )
        self.checks = live("checks", js="run.js")

    def _number(self, name: str, first: RunForm, label: str, **more: Any) -> None:
        self.fields[name] = gr.Number(getattr(first, name), label=label, **more)

    def inputs(self) -> list[Any]:
        """The checkpoint, the way, the set, the widgets of IMAGES, of NAMES, the weights."""
        return [
            self.checkpoint,
            self.way,
            self.prompt_set,
            *(self.images[name] for name in IMAGES),
            *(self.fields[name] for name in NAMES),
            *self.weights.values(),
        ]

    def preset_widgets(self) -> list[Any]:
        """What a preset fills: the widgets of NUMBERS, then the weights."""
        return [*(self.fields[name] for name in NUMBERS), *self.weights.values()]


class Typed:
    """What the widgets of `Wizard.inputs` held."""

    def __init__(self, values: tuple[Any, ...]) -> None:
        self.checkpoint, self.way, self.prompt_set, *rest = values
        images, rest = rest[: len(IMAGES)], rest[len(IMAGES) :]
        self.images = ImagesForm(**dict(zip(IMAGES, images, strict=True)))
        fields: dict[str, Any] = dict(zip(NAMES, rest, strict=False))
        weights = dict(zip(tuning.REWARDS, rest[len(NAMES) :], strict=True))
        texts = {field: str(fields[field] or "") for field in ("preset", "name", "references")}
        self.form = RunForm(weights=weights, **{**fields, **texts})

    def changes(self, other: RunForm, checkpoint: object) -> list[Any]:
        """Values of `inputs` where another form differs; the others are left as they are."""
        kept = [gr.skip()] * (2 + len(IMAGES))
        moved = gr.skip() if checkpoint == self.checkpoint else checkpoint
        fields = [_moved(getattr(self.form, name), getattr(other, name)) for name in NAMES]
        weights = [
            _moved(self.form.weights.get(name), other.weights.get(name, 0.0)) for name in tuning.REWARDS
        ]
        return [moved, *kept, *fields, *weights]


def _moved(old: object, new: object) -> Any:
    return gr.skip() if old == new else new


def _weight(name: str, first: RunForm) -> Any:
    """The field of a reward's weight."""
    label = t("train.your_ratings") if name == "human" else name.capitalize()
    return gr.Number(first.weights.get(name, 0.0), label=label, step=0.1, elem_id=f"weight-{name}")


def base_of(choices: list[tuple[str, str]]) -> str | None:
    """The oldest checkpoint: a first run starts from the base."""
    return choices[-1][1] if choices else None


def filled(preset: RunForm) -> list[Any]:
    """The values of `Wizard.preset_widgets`."""
    weights: Mapping[str, object] = preset.weights
    return [
        *(getattr(preset, name) for name in NUMBERS),
        *(weights.get(reward, 0.0) for reward in tuning.REWARDS),
    ]

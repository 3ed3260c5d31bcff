"""Train: what to learn from, a check before it starts, and a run as it learns."""

from __future__ import annotations

import hashlib
from typing import Any

import gradio as gr

from flowgrpo.config import PRESETS
from storage import runs
from storage.errors import NotSavedError
from ui import tuning
from ui.components import live, render, sentence, topbar
from ui.defaults import starter_prompts
from ui.forms import RunForm
from ui.services import SHOWN_ERRORS, Services, shown

PATH = "/train"
_TICK_SECONDS = 1.5
_FIRST_PRESET = "smoke"


class _Form:
    """The left panel."""

    NAMES = (
        "name",
        "prompts",
        "held_out",
        "num_updates",
        "group_size",
        "groups_per_update",
        "num_steps",
        "guidance_scale",
        "learning_rate",
        "kl_weight",
        "rank",
        "seed",
    )
    PRESET = (
        "num_updates",
        "group_size",
        "groups_per_update",
        "num_steps",
        "guidance_scale",
        "learning_rate",
        "kl_weight",
        "rank",
    )

    def __init__(self, services: Services) -> None:
        choices, first = services.choices(), tuning.preset_form(_FIRST_PRESET)
        train, held_out = starter_prompts()
        self.checkpoint = gr.Dropdown(
            choices, value=_base(choices), label="Start from", elem_id="train-checkpoint", filterable=False
        )
        self.prompts = gr.Textbox(
            "\n".join(train),
            label="Training prompts, one a line",
            lines=5,
            max_lines=5,
            elem_id="train-prompts",
        )
        self.held_out = gr.Textbox(
            "\n".join(held_out), label="Held-out prompts", lines=3, max_lines=3, elem_id="held-out"
        )
        gr.HTML(
            render("label.html", text="Reward weights"),
            apply_default_css=False,
            elem_classes="label-line",
            js_on_load=None,
        )
        with gr.Row(elem_classes="trio"):
            self.weights = [
                gr.Number(
                    first.weights.get(name, 0.0), label=name.capitalize(), step=0.1, elem_id=f"weight-{name}"
                )
                for name in tuning.REWARDS
            ]
        self.preset = gr.Radio(list(PRESETS), value=_FIRST_PRESET, label="Preset", elem_id="preset")
        with gr.Row(elem_classes="trio"):
            self.num_updates = gr.Number(first.num_updates, label="Updates", precision=0, elem_id="updates")
            self.groups_per_update = gr.Number(first.groups_per_update, label="Groups", precision=0)
            self.group_size = gr.Number(
                first.group_size, label="Of size", precision=0, elem_id="train-group-size"
            )
        with gr.Accordion("More settings", open=False, elem_id="train-more"):
            self.name = gr.Textbox(label="Name", placeholder="named after its rewards", elem_id="run-name")
            with gr.Row(elem_classes="trio"):
                self.num_steps = gr.Number(first.num_steps, label="Steps", precision=0)
                self.guidance_scale = gr.Number(first.guidance_scale, label="Guidance", step=0.5)
                self.seed = gr.Number(0, label="Seed", precision=0)
            with gr.Row(elem_classes="trio"):
                self.learning_rate = gr.Number(first.learning_rate, label="Learning rate", step=0.0001)
                self.kl_weight = gr.Number(first.kl_weight, label="KL weight", step=0.001)
                self.rank = gr.Number(first.rank, label="LoRA rank", precision=0)

    def inputs(self) -> list[Any]:
        """The checkpoint, the widgets of NAMES, the weights."""
        return [self.checkpoint, *(getattr(self, name) for name in self.NAMES), *self.weights]


def read(typed: tuple[Any, ...]) -> tuple[Any, RunForm]:
    """Widget values in the order of `inputs` -> (checkpoint id, form)."""
    checkpoint, *rest = typed
    fields = dict(zip(_Form.NAMES, rest, strict=False))
    weights = dict(zip(tuning.REWARDS, rest[len(_Form.NAMES) :], strict=True))
    return checkpoint, RunForm(weights=weights, **{**fields, "name": str(fields["name"] or "")})


def _base(choices: list[tuple[str, str]]) -> str | None:
    """The oldest checkpoint: a first run starts from the base."""
    return choices[-1][1] if choices else None


def build(page: gr.Blocks, services: Services) -> None:
    """Adds the page to `page`."""
    topbar.build(PATH, services)
    with gr.Row(elem_classes="workspace"):
        with gr.Column(elem_id="panel"):
            form = _Form(services)
            go = gr.Button("Start", variant="primary", elem_id="start-run")
            message = live("message")
            checks = live("checks")
        with gr.Column(elem_id="canvas"):
            detail = live("run", js="strip.js")
            others = live("runs", js="strip.js")
    seen, stamp = gr.State(None), gr.State("")
    hidden: dict[str, Any] = {
        "show_progress": "hidden",
        "concurrency_limit": None,
        "api_visibility": "private",
    }
    drawn = [seen, stamp, detail, others]

    def load(request: gr.Request) -> tuple[Any, ...]:
        run = tuning.find(services, request.query_params.get("run"))
        run_id = run.id if run else None
        choices = services.choices()
        return gr.Dropdown(choices=choices, value=_base(choices)), run_id, *draw(services, run_id)

    def start(*typed: Any) -> tuple[Any, ...]:
        checkpoint, filled = read(typed)
        try:
            run = tuning.start(services, checkpoint, filled)
        except SHOWN_ERRORS as error:
            return sentence(shown(error)), *[gr.skip()] * len(drawn)
        return "", run.id, *draw(services, run.id)

    def act(state: str | None, event: gr.EventData) -> tuple[Any, ...]:
        problem, run_id = acted(services, state, str(event.act), str(event.id))
        return sentence(problem), run_id, *draw(services, run_id)

    def preset(name: Any) -> list[Any]:
        filled = tuning.preset_form(str(name))
        return [
            *(getattr(filled, field) for field in _Form.PRESET),
            *(filled.weights.get(name, 0.0) for name in tuning.REWARDS),
        ]

    page.load(load, None, [form.checkpoint, *drawn], **hidden)
    page.load(lambda *typed: checked(services, typed), form.inputs(), checks, **hidden)
    gr.on(
        [widget.change for widget in form.inputs()],
        lambda *typed: checked(services, typed),
        form.inputs(),
        checks,
        trigger_mode="always_last",
        **hidden,
    )
    form.preset.input(
        preset, form.preset, [*(getattr(form, name) for name in _Form.PRESET), *form.weights], **hidden
    )
    go.click(start, form.inputs(), [message, *drawn], **hidden)
    for place in (detail, others):
        place.act(act, seen, [message, *drawn], **hidden)
    tick = gr.Timer(_TICK_SECONDS).tick
    tick(lambda state, last: _tick(services, state, last), [seen, stamp], drawn[1:], **hidden)


def checked(services: Services, typed: tuple[Any, ...]) -> str:
    """The preflight list, or the sentence that says what the form lacks."""
    checkpoint, filled = read(typed)
    try:
        _, found = tuning.check(services, checkpoint, filled)
    except SHOWN_ERRORS as error:
        return render("checks.html", checks=[{"level": "bad", "text": shown(error)}])
    return render("checks.html", checks=found)


def acted(services: Services, state: str | None, act: str, target: str) -> tuple[str, str | None]:
    """One click on a run: (a sentence when it could not be done, the run to show)."""
    try:
        if act == "stop":
            runs.request_stop(services.db, target)
        elif act == "resume":
            runs.resume_run(services.db, target)
        elif act == "open":
            return "", target
    except (LookupError, ValueError, NotSavedError) as error:
        return shown(error), state
    return "", state


def draw(services: Services, run_id: str | None) -> tuple[str, str, str]:
    """Stamp, run, list."""
    detail = tuning.run_html(services, run_id)
    others = tuning.list_html(services, run_id)
    return hashlib.sha256((detail + others).encode()).hexdigest(), detail, others


def _tick(services: Services, state: str | None, last: str) -> Any:
    """Redraws when rows changed; never changes which run is looked at."""
    drawn = draw(services, state)
    return drawn if drawn[0] != last else [gr.skip()] * len(drawn)

"""Train: what to learn from, a check before it starts, and a run as it learns."""

from __future__ import annotations

import hashlib
from typing import Any

import gradio as gr

from flowgrpo.presets import STARTER_PRESETS
from storage import runs
from storage.errors import NotSavedError
from storage.rated import rated_groups
from ui import asking, teaching, tuning, weights
from ui.agreement import LOOKED_BACK
from ui.components import HIDDEN, agree, live, render, sentence, topbar
from ui.defaults import starter_prompts
from ui.forms import FIRST_PRESET, RunForm
from ui.services import SHOWN_ERRORS, Services, shown

PATH = "/train"
_TICK_SECONDS, _TEACHING_SECONDS = 1.5, 3.0
_LABELS = {"human": "Your ratings"}
"""Of rewards whose name alone would not be understood."""
_ABREAST = 3
"""Weights in a row; more would not show their numbers."""


class _Form:
    """The left panel."""

    NAMES = (
        "preset",
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
        "people_minutes",
        "judges",
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
        choices, first = services.choices(), tuning.preset_form(FIRST_PRESET, services.db)
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
        self.weights: list[Any] = []
        for names in (tuning.REWARDS[:_ABREAST], tuning.REWARDS[_ABREAST:]):
            with gr.Row(elem_classes="trio"):
                self.weights += [_weight(name, first) for name in names]
        self.weights_from = live("weights-from")
        self.agreement = live("agreement")
        self.teaching = live("teaching", js="strip.js")
        self.preset = gr.Radio(list(STARTER_PRESETS), value=FIRST_PRESET, label="Preset", elem_id="preset")
        with gr.Row(elem_classes="trio"):
            self.num_updates = gr.Number(first.num_updates, label="Updates", precision=0, elem_id="updates")
            self.groups_per_update = gr.Number(first.groups_per_update, label="Groups", precision=0)
            self.group_size = gr.Number(
                first.group_size, label="Of size", precision=0, elem_id="train-group-size"
            )
        self._more(first)

    def _more(self, first: RunForm) -> None:
        """What most people leave as it is."""
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
            self.people_minutes = gr.Number(
                0, label="Minutes to wait for ratings before each update (0: ask nobody)",
                elem_id="people-minutes",
            )  # fmt: skip
            self.judges = gr.Textbox(
                label="Judges of the samples, which never reward", placeholder="chosen by the studio",
                elem_id="judges",
            )  # fmt: skip

    def inputs(self) -> list[Any]:
        """The checkpoint, the widgets of NAMES, the weights."""
        return [self.checkpoint, *(getattr(self, name) for name in self.NAMES), *self.weights]

    def preset_widgets(self) -> list[Any]:
        """What a preset fills: the widgets of PRESET, then the weights."""
        return [*(getattr(self, name) for name in self.PRESET), *self.weights]


def _weight(name: str, first: RunForm) -> Any:
    """The field of a reward's weight."""
    label = _LABELS.get(name, name.capitalize())
    return gr.Number(first.weights.get(name, 0.0), label=label, step=0.1, elem_id=f"weight-{name}")


def read(typed: tuple[Any, ...]) -> tuple[Any, RunForm]:
    """Widget values in the order of `inputs` -> (checkpoint id, form)."""
    checkpoint, *rest = typed
    fields = dict(zip(_Form.NAMES, rest, strict=False))
    weights = dict(zip(tuning.REWARDS, rest[len(_Form.NAMES) :], strict=True))
    texts = {field: str(fields[field] or "") for field in ("preset", "name")}
    return checkpoint, RunForm(weights=weights, **{**fields, **texts})


def _base(choices: list[tuple[str, str]]) -> str | None:
    """The oldest checkpoint: a first run starts from the base."""
    return choices[-1][1] if choices else None


class _Page:
    """The widgets of the page, and what each of its events does."""

    def __init__(self, services: Services) -> None:
        self.services = services
        with gr.Row(elem_classes="workspace"):
            with gr.Column(elem_id="panel"):
                self.form = _Form(services)
                self.go = gr.Button("Start", variant="primary", elem_id="start-run")
                self.message = live("message")
                self.checks = live("checks")
            with gr.Column(elem_id="canvas"):
                self.detail = live("run", js="strip.js")
                self.others = live("runs", js="strip.js")
        self.seen, stamp = gr.State(None), gr.State("")
        self.drawn = [self.seen, stamp, self.detail, self.others]

    def wire(self, page: gr.Blocks) -> None:
        """Connects the events; only the page's own clicks change which run is looked at."""
        form, drawn = self.form, self.drawn
        page.load(self.load, None, [form.checkpoint, *drawn], **HIDDEN)
        page.load(self.fitted, None, [*form.weights, form.weights_from], **HIDDEN)
        page.load(self.check, form.inputs(), self.checks, **HIDDEN)
        changes = [widget.change for widget in form.inputs()]
        gr.on(changes, self.check, form.inputs(), self.checks, trigger_mode="always_last", **HIDDEN)
        asked = [form.preset, *form.weights]
        page.load(self.agree, asked, form.agreement, **HIDDEN)
        weighing = [widget.change for widget in asked]
        gr.on(weighing, self.agree, asked, form.agreement, trigger_mode="always_last", **HIDDEN)
        form.preset.input(self.preset, form.preset, form.preset_widgets(), **HIDDEN)
        self.go.click(self.start, form.inputs(), [self.message, *drawn], **HIDDEN)
        for place in (self.detail, self.others):
            place.act(self.act, self.seen, [self.message, *drawn], **HIDDEN)
        told = [gr.State(""), form.teaching]
        taught = [*told, *form.weights, form.weights_from]
        form.teaching.act(self.teach, form.checkpoint, [self.message, *taught, *drawn], **HIDDEN)
        page.load(self.teachers, None, told, **HIDDEN)
        gr.Timer(_TEACHING_SECONDS).tick(self.teachers, told[:1], told, **HIDDEN)
        gr.Timer(_TICK_SECONDS).tick(self.tick, drawn[:2], drawn[1:], **HIDDEN)

    def load(self, request: gr.Request) -> tuple[Any, ...]:
        """The run of the address, else the newest."""
        run = tuning.find(self.services, request.query_params.get("run"))
        run_id = run.id if run else None
        choices = self.services.choices()
        return gr.Dropdown(choices=choices, value=_base(choices)), run_id, *draw(self.services, run_id)

    def check(self, *typed: Any) -> str:
        """The preflight list of the form as it stands."""
        return checked(self.services, typed)

    def fitted(self) -> list[Any]:
        """The weights to begin with, and whose votes they follow, where some are in use."""
        found = weights.fitted(self.services.db, tuning.REWARDS)
        first = tuning.preset_form(FIRST_PRESET, self.services.db).weights
        words = render("weights.html", words=found.words if found else "")
        return [*(first.get(name, 0.0) for name in tuning.REWARDS), words]

    def agree(self, preset: Any, *weights: Any) -> str:
        """How often each reward, and all of them as the preset weighs them, agree with the people."""
        seen = rated_groups(self.services.db, LOOKED_BACK)
        typed = dict(zip(tuning.REWARDS, weights, strict=True))
        return agree.agree_html(seen, typed, is_pooled=tuning.is_pooled(str(preset)))

    def teachers(self, last: str | None = None) -> tuple[Any, Any]:
        """What was learned from ratings, as it stands now; redrawn where it is not what it was."""
        told = teaching.teaching_html(self.services.db)
        return (told, told) if told != last else (gr.skip(), gr.skip())

    def teach(self, checkpoint: Any, event: gr.EventData) -> tuple[Any, ...]:
        """One click on what ratings teach; weights that are put to use are filled in at once."""
        act, problem, run = str(event.act), "", None
        try:
            run = teaching.acted(self.services, act, str(event.id), checkpoint)
        except SHOWN_ERRORS as error:
            problem = shown(error)
        is_moved = not problem and act in ("apply", "withdraw")
        filled = self.fitted() if is_moved else [gr.skip()] * (len(tuning.REWARDS) + 1)
        looked = (run.id, *draw(self.services, run.id)) if run else [gr.skip()] * len(self.drawn)
        return sentence(problem), *self.teachers(), *filled, *looked

    def start(self, *typed: Any) -> tuple[Any, ...]:
        """Queues a run and looks at it; a refusal changes nothing but the sentence."""
        checkpoint, filled = read(typed)
        try:
            run = tuning.start(self.services, checkpoint, filled)
        except SHOWN_ERRORS as error:
            return sentence(shown(error)), *[gr.skip()] * len(self.drawn)
        return "", run.id, *draw(self.services, run.id)

    def act(self, state: str | None, event: gr.EventData) -> tuple[Any, ...]:
        """One click on a run."""
        problem, run_id = acted(self.services, state, str(event.act), str(event.id))
        return sentence(problem), run_id, *draw(self.services, run_id)

    def preset(self, name: Any) -> list[Any]:
        """The numbers of a preset."""
        filled = tuning.preset_form(str(name), self.services.db)
        numbers = [getattr(filled, field) for field in _Form.PRESET]
        return [*numbers, *(filled.weights.get(reward, 0.0) for reward in tuning.REWARDS)]

    def tick(self, state: str | None, last: str) -> Any:
        """Redraws when rows changed."""
        drawn = draw(self.services, state)
        return drawn if drawn[0] != last else [gr.skip()] * len(drawn)


def build(page: gr.Blocks, services: Services) -> None:
    """Adds the page to `page`."""
    topbar.build(page, PATH, services)
    _Page(services).wire(page)


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
        elif act == "back":
            asking.go_back(services.db, target)
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

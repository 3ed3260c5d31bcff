"""Studio: write a prompt, see a group of images and how the rewards compare them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from flowgrpo.config import SamplingConfig
from storage.groups import GroupView
from ui.components import HIDDEN, live, render, sentence, span, strip, topbar, words
from ui.forms import GroupForm, show_seeds
from ui.services import SHOWN_ERRORS, Services, shown

PATH = "/"
_TICK_SECONDS = 0.6
_DEFAULTS = SamplingConfig()
_FIRST_PROMPT = "portrait, long hair, red hair, pale skin, glasses, smile, blue background"


@dataclass(frozen=True)
class Seen:
    """What one browser looks at: the group, and the image whose details are open. Only its own clicks
    change it."""

    group_id: str | None = None
    picked: str | None = None


class _Form:
    """The left panel; its widgets in the order in which handlers get them."""

    NAMES = ("prompt", "negative", "group_size", "seeds", "num_steps", "guidance_scale", "width", "height")

    def __init__(self, services: Services) -> None:
        choices = services.choices()
        self.prompt = gr.Textbox(
            _FIRST_PROMPT,
            label="Prompt",
            lines=4,
            max_lines=8,
            elem_id="prompt",
            max_length=None,
            placeholder="What the images should show",
        )
        self.checkpoint = gr.Dropdown(
            choices,
            value=choices[-1][1] if choices else None,
            label="Checkpoint",
            elem_id="checkpoint",
            filterable=False,
        )
        with gr.Row(elem_classes="trio"):
            self.group_size = gr.Number(8, label="Group", precision=0, elem_id="group-size")
            self.num_steps = gr.Number(_DEFAULTS.num_steps, label="Steps", precision=0, elem_id="steps")
            self.guidance_scale = gr.Number(
                _DEFAULTS.guidance_scale, label="Guidance", elem_id="guidance", step=0.5
            )
        self.seeds = gr.Textbox(
            label="Seeds",
            placeholder="new each time",
            elem_id="seeds",
            max_lines=2,
            info="One seed counts up; or list each.",
        )
        with gr.Accordion("Negative prompt and size", open=False, elem_id="more"):
            self.negative = gr.Textbox(
                label="Negative prompt", lines=2, elem_id="negative", placeholder="nothing"
            )
            with gr.Row(elem_classes="trio"):
                self.width = gr.Number(None, label="Width", precision=0, placeholder="as the base")
                self.height = gr.Number(None, label="Height", precision=0, placeholder="as the base")

    def inputs(self) -> list[Any]:
        """The checkpoint first, then the widgets of NAMES."""
        return [self.checkpoint, *(getattr(self, name) for name in self.NAMES)]


class _Page:
    """The widgets of the page, and what each of its events does."""

    def __init__(self, services: Services) -> None:
        self.services = services
        with gr.Row(elem_classes="workspace"):
            with gr.Column(elem_id="panel"):
                self.form = _Form(services)
                self.go = gr.Button("Generate", variant="primary", elem_id="generate")
                self.message = live("message")
                line = live("queue-line")
                self.chips = live("words", js="words.js")
            with gr.Column(elem_id="canvas"):
                self.canvas = live("group", js="strip.js")
                self.recent = live("recent", js="strip.js")
        self.seen, stamp = gr.State(Seen()), gr.State("")
        self.drawn = [self.seen, stamp, self.canvas, self.recent, line]

    def wire(self, page: gr.Blocks) -> None:
        """Connects the events; only the page's own clicks write `seen`."""
        form, drawn = self.form, self.drawn
        worded = [form.prompt, form.checkpoint]
        page.load(self.load, None, [form.checkpoint, *drawn], **HIDDEN)
        page.load(self.words, worded, self.chips, **HIDDEN)
        changes = [widget.change for widget in worded]
        gr.on(changes, self.words, worded, self.chips, trigger_mode="always_last", **HIDDEN)
        self.go.click(self.generate, form.inputs(), [self.message, *drawn], **HIDDEN)
        for place in (self.canvas, self.recent):
            place.act(self.act, self.seen, [self.message, *form.inputs(), *drawn], **HIDDEN)
        gr.Timer(_TICK_SECONDS).tick(self.tick, drawn[:2], drawn[1:], **HIDDEN)

    def load(self, request: gr.Request) -> tuple[Any, ...]:
        """The group and the checkpoint of the address, else the newest group and the base."""
        asked = self.services.group(request.query_params.get("group"))
        newest = [asked] if asked else self.services.recent()[:1]
        start = Seen(newest[0].group.id if newest else None)
        choices = self.services.choices()
        known = [checkpoint_id for _, checkpoint_id in choices]
        wanted = request.query_params.get("checkpoint")
        chosen = wanted if wanted in known else next(reversed(known), None)
        return gr.Dropdown(choices=choices, value=chosen), start, *_draw(self.services, start)

    def words(self, prompt: Any, checkpoint: Any) -> str:
        """The words that the starter knows, and those of the prompt that it does not."""
        return _words(self.services, prompt, checkpoint)

    def generate(self, checkpoint: Any, *typed: Any) -> tuple[Any, ...]:
        """Queues a group and looks at it; a refusal changes nothing but the sentence."""
        try:
            form = GroupForm(**dict(zip(_Form.NAMES, typed, strict=True)))
            start = Seen(self.services.generate(checkpoint, form).id)
        except SHOWN_ERRORS as error:
            return sentence(shown(error)), *[gr.skip()] * len(self.drawn)
        return "", start, *_draw(self.services, start)

    def act(self, state: Seen, event: gr.EventData) -> dict[Any, Any]:
        """One click on the canvas. Only "seed", "seeds" and "settings" touch the form."""
        act, target = str(event.act), str(event.id)
        if act in ("seed", "seeds", "settings"):
            view = self.services.group(state.group_id)
            return _reuse(self.form, view, act, target) if view else {self.seen: gr.skip()}
        if act == "cancel":
            try:
                self.services.cancel(target)
            except SHOWN_ERRORS as error:
                return {self.message: sentence(shown(error))}
        state = _looked(state, act, target)
        return {self.message: "", **dict(zip(self.drawn, (state, *_draw(self.services, state)), strict=True))}

    def tick(self, state: Seen, last: str) -> Any:
        """Redraws when rows changed; a click that came meanwhile is never undone by an old tick."""
        drawn = _draw(self.services, state)
        return drawn if drawn[0] != last else [gr.skip()] * len(drawn)


def build(page: gr.Blocks, services: Services) -> None:
    """Adds the page to `page`."""
    topbar.build(page, PATH, services)
    _Page(services).wire(page)


def _looked(state: Seen, act: str, target: str) -> Seen:
    """What is looked at after a click."""
    if act == "open":
        return Seen(target)
    if act == "pick":
        return replace(state, picked=None if state.picked == target else target)
    return replace(state, picked=None) if act == "close" else state


def _draw(services: Services, state: Seen) -> tuple[str, str, str, str]:
    """Everything that follows from rows, after a stamp that changes when it does."""
    view = services.group(state.group_id)
    around = services.recent()
    if view is None:
        canvas = render("no_group.html")
    else:
        left = services.seconds_left(view)
        canvas = strip.strip_html(view, picked=state.picked, position=services.position(view), wait=left)
    recent = strip.recent_html(around, state.group_id)
    line = render("queue_line.html", text=_line(around))
    stamp = hashlib.sha256("".join((canvas, recent, line)).encode()).hexdigest()
    return stamp, canvas, recent, line


def _line(around: list[GroupView]) -> str:
    waiting = [view for view in around if view.group.state in ("queued", "running")]
    if waiting:
        return f"{len(waiting)} group{'s' if len(waiting) > 1 else ''} in work."
    last = next((took for view in around if view.group.state == "done" and (took := strip.took(view))), None)
    return f"Queue empty. The last group took {span(last)}." if last else "Queue empty."


def _words(services: Services, prompt: Any, checkpoint: Any) -> str:
    try:
        knows = services.base_facts(services.checkpoint(checkpoint)).is_starter
    except SHOWN_ERRORS:
        knows = False
    return words.words_html(str(prompt or "")[:10_000], knows=knows)


def _reuse(form: _Form, view: GroupView, act: str, target: str) -> dict[Any, Any]:
    if act == "seed":
        seed = next((image.image.seed for image in view.images if image.image.id == target), None)
        return {form.seeds: str(seed)} if seed is not None else {form.seeds: gr.skip()}
    seeds = {form.seeds: show_seeds(view.group.seeds), form.group_size: len(view.group.seeds)}
    if act == "seeds":
        return seeds
    config = view.group.config
    return {
        form.prompt: view.group.prompt,
        form.negative: config["negative_prompt"],
        form.checkpoint: view.checkpoint.id,
        form.num_steps: config["num_steps"],
        form.guidance_scale: config["guidance_scale"],
        form.width: config["width"],
        form.height: config["height"],
        form.group_size: len(view.group.seeds),
    }

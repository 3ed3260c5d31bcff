"""Studio: write a prompt, see a group of images and how the rewards compare them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from flowgrpo.config import SamplingConfig
from storage.groups import GroupView
from ui.components import live, render, sentence, span, strip, topbar, words
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


def build(page: gr.Blocks, services: Services) -> None:
    """Adds the page to `page`."""
    topbar.build(PATH, services)
    with gr.Row(elem_classes="workspace"):
        with gr.Column(elem_id="panel"):
            form = _Form(services)
            go = gr.Button("Generate", variant="primary", elem_id="generate")
            message = live("message")
            line = live("queue-line")
            chips = live("words", js="words.js")
        with gr.Column(elem_id="canvas"):
            canvas = live("group", js="strip.js")
            recent = live("recent", js="strip.js")
    seen, stamp = gr.State(Seen()), gr.State("")
    hidden: dict[str, Any] = {
        "show_progress": "hidden",
        "concurrency_limit": None,
        "api_visibility": "private",
    }
    drawn = [seen, stamp, canvas, recent, line]

    def load(request: gr.Request) -> tuple[Any, ...]:
        wanted = services.group(request.query_params.get("group"))
        if wanted is None:
            newest = services.recent()
            wanted = newest[0] if newest else None
        choices = services.choices()
        start = Seen(wanted.group.id if wanted else None)
        asked = request.query_params.get("checkpoint")
        known = [checkpoint_id for _, checkpoint_id in choices]
        chosen = asked if asked in known else (known[-1] if known else None)
        return (gr.Dropdown(choices=choices, value=chosen), start, *_draw(services, start))

    def generate(state: Seen, checkpoint: Any, *typed: Any) -> tuple[Any, ...]:
        try:
            made = services.generate(checkpoint, GroupForm(**dict(zip(_Form.NAMES, typed, strict=True))))
        except SHOWN_ERRORS as error:
            return (sentence(shown(error)), *[gr.skip()] * len(drawn))
        return ("", Seen(made.id), *_draw(services, Seen(made.id)))

    def act(state: Seen, event: gr.EventData) -> dict[Any, Any]:
        return _act(
            services, form, state, str(event.act), str(event.id), dict(zip(DRAWN, drawn, strict=True))
        )

    def about_words(prompt: Any, checkpoint: Any) -> str:
        return _words(services, prompt, checkpoint)

    page.load(load, None, [form.checkpoint, *drawn], **hidden)
    page.load(about_words, [form.prompt, form.checkpoint], chips, **hidden)
    gr.on(
        [form.prompt.change, form.checkpoint.change],
        lambda *typed: about_words(*typed),
        [form.prompt, form.checkpoint],
        chips,
        trigger_mode="always_last",
        **hidden,
    )
    go.click(generate, [seen, *form.inputs()], [message, *drawn], **hidden)
    changed = [*form.inputs(), message, *drawn]
    for place in (canvas, recent):
        place.act(act, seen, changed, **hidden)
    tick = gr.Timer(_TICK_SECONDS).tick
    tick(lambda state, last: _tick(services, state, last), [seen, stamp], drawn[1:], **hidden)


DRAWN = ("seen", "stamp", "canvas", "recent", "line")


def _tick(services: Services, state: Seen, last: str) -> Any:
    """Redraws when rows changed. Never writes `seen`: a click that came meanwhile must not be undone by an
    old tick."""
    drawn = _draw(services, state)
    return drawn if drawn[0] != last else [gr.skip()] * len(drawn)


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


def _act(
    services: Services, form: _Form, state: Seen, act: str, target: str, out: dict[str, Any]
) -> dict[Any, Any]:
    """One click on the canvas. Only "seed", "seeds" and "settings" touch the form."""
    if act in ("seed", "seeds", "settings"):
        view = services.group(state.group_id)
        return _reuse(form, view, act, target) if view else {out["seen"]: gr.skip()}
    if act == "cancel":
        services.cancel(target)
    if act == "open":
        state = Seen(target)
    if act == "pick":
        state = replace(state, picked=None if state.picked == target else target)
    if act == "close":
        state = replace(state, picked=None)
    return {out[name]: value for name, value in zip(DRAWN, (state, *_draw(services, state)), strict=True)}


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

"""Compare: checkpoints x prompts at the same seeds, and a slider on two images."""

from __future__ import annotations

import hashlib
from typing import Any

import gradio as gr

from ui import comparing
from ui.components import live, render, sentence, topbar
from ui.defaults import starter_prompts
from ui.forms import show_seeds
from ui.services import SHOWN_ERRORS, Services, shown

PATH = "/compare"
_TICK_SECONDS = 1.0
_PROMPTS, _IMAGES, _STEPS, _GUIDANCE, _SEEDS = 4, 6, 8, 1.0, "7"
_NEWEST = 1


def build(page: gr.Blocks, services: Services) -> None:
    """Adds the page to `page`."""
    topbar.build(PATH, services)
    with gr.Row(elem_classes="workspace"):
        with gr.Column(elem_id="panel"):
            chosen = gr.Dropdown(
                services.choices(),
                value=first_choice(services),
                label="Checkpoints",
                multiselect=True,
                elem_id="compare-checkpoints",
            )
            prompts = gr.Textbox(
                "\n".join(starter_prompts()[1][:_PROMPTS]),
                label="Prompts, one a line",
                lines=8,
                max_lines=12,
                elem_id="compare-prompts",
            )
            with gr.Row(elem_classes="trio"):
                count = gr.Number(_IMAGES, label="Images", precision=0, elem_id="compare-images")
                steps = gr.Number(_STEPS, label="Steps", precision=0, elem_id="compare-steps")
                guidance = gr.Number(_GUIDANCE, label="Guidance", step=0.5, elem_id="compare-guidance")
            seeds = gr.Textbox(
                _SEEDS,
                label="Seeds",
                info="One seed counts up; or list each.",
                elem_id="compare-seeds",
            )
            message = live("message")
        with gr.Column(elem_id="canvas"):
            canvas = live("grid", js="compare.js")
    picked, stamp = gr.State(None), gr.State("")
    form = [chosen, prompts, seeds, count, steps, guidance]
    hidden: dict[str, Any] = {
        "show_progress": "hidden",
        "concurrency_limit": None,
        "api_visibility": "private",
    }

    def load(request: gr.Request) -> tuple[Any, ...]:
        return (*opening(services, dict(request.query_params)),)

    def changed(pick: str | None, *typed: Any) -> tuple[str, str, str]:
        return draw(services, pick, typed)

    def act(pick: str | None, event: gr.EventData, *typed: Any) -> tuple[Any, ...]:
        problem = ""
        if event.act == "generate":
            problem = generate(services, typed)
        if event.act == "pick":
            pick = None if pick == event.id else str(event.id)
        words, mark, html = draw(services, pick, typed)
        return pick, sentence(problem) if problem else words, mark, html

    def tick(last: str, pick: str | None, *typed: Any) -> tuple[Any, ...]:
        drawn = draw(services, pick, typed)
        return drawn if drawn[1] != last else (gr.skip(), gr.skip(), gr.skip())

    page.load(load, None, form, **hidden)
    gr.on(
        [widget.change for widget in form],
        changed,
        [picked, *form],
        [message, stamp, canvas],
        trigger_mode="always_last",
        **hidden,
    )
    canvas.act(act, [picked, *form], [picked, message, stamp, canvas], **hidden)
    gr.Timer(_TICK_SECONDS).tick(tick, [stamp, picked, *form], [message, stamp, canvas], **hidden)


def first_choice(services: Services) -> list[str]:
    """The base and the newest checkpoint."""
    ids = [checkpoint_id for _, checkpoint_id in services.choices()]
    return list(dict.fromkeys([*ids[-1:], *ids[:_NEWEST]]))


def opening(services: Services, query: dict[str, str]) -> tuple[Any, ...]:
    """The form as the address asks for it: ?checkpoints=a,b or ?group=a, else the base and the newest
    checkpoint."""
    choices = services.choices()
    known = {checkpoint_id for _, checkpoint_id in choices}
    asked = [one for one in query.get("checkpoints", "").split(",") if one in known]
    view = services.group(query.get("group"))
    if view is not None:
        config = view.group.config
        ids = list(dict.fromkeys([*first_choice(services)[:1], view.checkpoint.id, *first_choice(services)]))
        return (
            gr.Dropdown(choices=choices, value=[one for one in ids if one in known]),
            view.group.prompt,
            show_seeds(view.group.seeds),
            len(view.group.seeds),
            config["num_steps"],
            config["guidance_scale"],
        )
    return gr.Dropdown(choices=choices, value=asked or first_choice(services)), *[gr.skip()] * 5


def draw(services: Services, pick: str | None, typed: tuple[Any, ...]) -> tuple[str, str, str]:
    """(sentence, stamp, grid). A form that is wrong says so and shows no grid."""
    try:
        words, html = "", comparing.grid_html(services, comparing.check(services, *typed), pick)
    except SHOWN_ERRORS as error:
        words, html = sentence(shown(error)), render("no_grid.html")
    return words, hashlib.sha256((words + html).encode()).hexdigest(), html


def generate(services: Services, typed: tuple[Any, ...]) -> str:
    """Queues the missing cells; the sentence of what stands against it."""
    try:
        comparing.generate_missing(services, comparing.check(services, *typed))
    except SHOWN_ERRORS as error:
        return shown(error)
    return ""

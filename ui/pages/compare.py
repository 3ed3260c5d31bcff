"""Compare: checkpoints x prompts at the same seeds, and a slider on two images."""

from __future__ import annotations

import hashlib
from typing import Any

import gradio as gr

from flowgrpo.config import RolloutConfig
from storage import checkpoints, runs
from storage.groups import GroupView
from storage.models import Checkpoint
from ui import comparing
from ui.components import HIDDEN, live, render, sentence, topbar
from ui.defaults import starter_prompts
from ui.forms import show_seeds
from ui.services import SHOWN_ERRORS, Services, shown

PATH = "/compare"
_TICK_SECONDS = 1.0
_PROMPTS, _IMAGES, _STEPS, _GUIDANCE, _SEEDS = 4, 6, 8, 1.0, "7"
_FIELDS = 9
"""Widgets of the form."""


class _Page:
    """The widgets of the page, and what each of its events does."""

    def __init__(self, services: Services) -> None:
        self.services = services
        with gr.Row(elem_classes="workspace"):
            with gr.Column(elem_id="panel"):
                self.form = _form(services)
                message = live("message")
            with gr.Column(elem_id="canvas"):
                self.canvas = live("grid", js="compare.js")
        self.picked, stamp = gr.State(None), gr.State("")
        self.drawn = [stamp, message, self.canvas]

    def wire(self, page: gr.Blocks) -> None:
        """Connects the events; only clicks on the grid change which image is picked."""
        form, drawn = self.form, self.drawn
        page.load(self.load, None, form, **HIDDEN)
        changes = [widget.change for widget in form]
        gr.on(changes, self.change, [self.picked, *form], drawn, trigger_mode="always_last", **HIDDEN)
        self.canvas.act(self.act, [self.picked, *form], [self.picked, *drawn], **HIDDEN)
        gr.Timer(_TICK_SECONDS).tick(self.tick, [drawn[0], self.picked, *form], drawn, **HIDDEN)

    def load(self, request: gr.Request) -> tuple[Any, ...]:
        """The form as the address asks for it."""
        return opening(self.services, dict(request.query_params))

    def change(self, pick: str | None, *typed: Any) -> tuple[str, str, str]:
        """The grid of the form as it stands."""
        return draw(self.services, pick, typed)

    def act(self, pick: str | None, event: gr.EventData, *typed: Any) -> tuple[Any, ...]:
        """A picked image, or the wish to generate what is missing."""
        problem = generate(self.services, typed) if event.act == "generate" else ""
        if event.act == "pick":
            pick = None if pick == event.id else str(event.id)
        mark, words, html = draw(self.services, pick, typed)
        return pick, mark, sentence(problem) if problem else words, html

    def tick(self, last: str, pick: str | None, *typed: Any) -> tuple[Any, ...]:
        """Redraws when rows changed."""
        drawn = draw(self.services, pick, typed)
        return drawn if drawn[0] != last else (gr.skip(), gr.skip(), gr.skip())


def build(page: gr.Blocks, services: Services) -> None:
    """Adds the page to `page`."""
    topbar.build(page, PATH, services)
    _Page(services).wire(page)


def _form(services: Services) -> list[Any]:
    """The left panel: checkpoints, prompts, seeds, images, steps, guidance, negative prompt, width, height,
    in the order of `comparing.check`."""
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
        info=f"{comparing.LINE_BREAK} is a line break inside a prompt.",
        lines=8,
        max_lines=12,
        elem_id="compare-prompts",
    )
    with gr.Row(elem_classes="trio"):
        count = gr.Number(_IMAGES, label="Images", precision=0, elem_id="compare-images")
        steps = gr.Number(_STEPS, label="Steps", precision=0, elem_id="compare-steps")
        guidance = gr.Number(_GUIDANCE, label="Guidance", step=0.5, elem_id="compare-guidance")
    seeds = gr.Textbox(
        _SEEDS, label="Seeds", info="One seed counts up; or list each.", elem_id="compare-seeds"
    )
    with gr.Accordion("Negative prompt and size", open=False, elem_id="compare-more"):
        negative = gr.Textbox(
            label="Negative prompt", lines=2, elem_id="compare-negative", placeholder="nothing"
        )
        with gr.Row(elem_classes="trio"):
            width = gr.Number(
                None, label="Width", precision=0, placeholder="as the base", elem_id="compare-width"
            )
            height = gr.Number(
                None, label="Height", precision=0, placeholder="as the base", elem_id="compare-height"
            )
    return [chosen, prompts, seeds, count, steps, guidance, negative, width, height]


def first_choice(services: Services, chosen: Checkpoint | None = None) -> list[str]:
    """A checkpoint after its base: the chosen one, or the newest where none or the base itself is chosen."""
    known = checkpoints.list_checkpoints(services.db)
    chosen = chosen or next(reversed(known), None)
    kin = [one for one in known if chosen and one.base_model_id == chosen.base_model_id]
    tuned = [one.id for one in kin if one.run_id is not None]
    other = [chosen.id] if chosen and chosen.id in tuned else tuned[-1:]
    return [*(one.id for one in kin if one.run_id is None), *other]


def opening(services: Services, query: dict[str, str]) -> tuple[Any, ...]:
    """The form as the address asks for it: ?checkpoints=a,b, drawn as their run draws, or ?group=a, else the
    base and the newest checkpoint."""
    choices = services.choices()
    known = {checkpoint_id for _, checkpoint_id in choices}
    view = services.group(query.get("group"))
    if view is not None:
        return _chosen(choices, first_choice(services, view.checkpoint)), *fields_of(view)
    asked = [one for one in query.get("checkpoints", "").split(",") if one in known]
    return _chosen(choices, asked or first_choice(services)), *_sampler_of(services, asked)


def _sampler_of(services: Services, asked: list[str]) -> tuple[Any, ...]:
    """Steps, guidance and size that the run of the last checkpoint learned with, after prompts, seeds and
    count; what it learned shows there, and a policy that was held to a guided base needs no guidance."""
    made = [checkpoints.get_checkpoint(services.db, one) for one in asked]
    run_id = next((one.run_id for one in reversed(made) if one.run_id is not None), None)
    if run_id is None:
        return (gr.skip(),) * (_FIELDS - 1)
    rollout = RolloutConfig.model_validate(runs.get_run(services.db, run_id).config.get("rollout", {}))
    return (
        *[gr.skip()] * 3,
        rollout.num_steps,
        rollout.guidance_scale,
        gr.skip(),
        rollout.width,
        rollout.height,
    )


def _chosen(choices: list[tuple[str, str]], ids: list[str]) -> gr.Dropdown:
    return gr.Dropdown(choices=choices, value=ids, multiselect=True)


def fields_of(view: GroupView) -> tuple[Any, ...]:
    """The form that finds exactly this group, without its checkpoints."""
    config = view.group.config
    return (
        comparing.one_line(view.group.prompt),
        show_seeds(view.group.seeds),
        len(view.group.seeds),
        config["num_steps"],
        config["guidance_scale"],
        config["negative_prompt"],
        config["width"],
        config["height"],
    )


def draw(services: Services, pick: str | None, typed: tuple[Any, ...]) -> tuple[str, str, str]:
    """(stamp, sentence, grid). A form that is wrong says so and shows no grid."""
    try:
        words, html = "", comparing.grid_html(services, comparing.check(services, *typed), pick)
    except SHOWN_ERRORS as error:
        words, html = sentence(shown(error)), render("no_grid.html")
    return hashlib.sha256((words + html).encode()).hexdigest(), words, html


def generate(services: Services, typed: tuple[Any, ...]) -> str:
    """Queues the missing cells; the sentence of what stands against it."""
    try:
        comparing.generate_missing(services, comparing.check(services, *typed))
    except SHOWN_ERRORS as error:
        return shown(error)
    return ""

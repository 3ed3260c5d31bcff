"""The form of a blind test and of an evaluation: checkpoints, held-out prompts, images, steps, guidance.

Its lists are filled when a page is loaded, by somebody who may see them: a page's configuration goes to
everybody who opens it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from ui import judging
from ui.components import HIDDEN
from ui.language import t
from ui.services import SHOWN_ERRORS, Services, shown


class JudgingForm:
    """Widgets in the order of `judging.check`."""

    def __init__(self, services: Services, prefix: str, images: int) -> None:
        self.services = services
        self.checkpoints = gr.Dropdown(
            [], label=t("judging.checkpoints"), multiselect=True, elem_id=f"{prefix}-checkpoints"
        )
        self.source = gr.Dropdown([], label=t("judging.source"), elem_id=f"{prefix}-source")
        self.prompts = gr.Textbox(
            label=t("judging.prompts"), lines=6, max_lines=10, elem_id=f"{prefix}-prompts"
        )
        with gr.Row(elem_classes="trio"):
            self.images = gr.Number(
                images, label=t("judging.images"), precision=0, elem_id=f"{prefix}-images"
            )
            self.steps = gr.Number(
                judging.STEPS, label=t("judging.steps"), precision=0, elem_id=f"{prefix}-steps"
            )
            self.guidance = gr.Number(
                judging.GUIDANCE, label=t("judging.guidance"), step=0.5, elem_id=f"{prefix}-guidance"
            )
        with gr.Accordion(t("judging.more"), open=False, elem_id=f"{prefix}-more"):
            self.seeds = gr.Textbox(judging.SEEDS, label=t("judging.seeds"), elem_id=f"{prefix}-seeds")
            self.negative = gr.Textbox(label=t("judging.negative"), lines=2, elem_id=f"{prefix}-negative")
            with gr.Row(elem_classes="trio"):
                size: dict[str, Any] = {"precision": 0, "placeholder": t("judging.as_base")}
                self.width = gr.Number(None, label=t("judging.width"), elem_id=f"{prefix}-width", **size)
                self.height = gr.Number(None, label=t("judging.height"), elem_id=f"{prefix}-height", **size)

    @property
    def typed(self) -> list[Any]:
        """What is typed, as `judging.check` takes it after the bounds."""
        return [
            self.checkpoints, self.prompts, self.images, self.steps, self.guidance, self.seeds, self.negative,
            self.width, self.height,
        ]  # fmt: skip

    @property
    def opened(self) -> list[Any]:
        """What `opening` fills."""
        return [
            self.checkpoints, self.source, self.prompts, self.steps, self.guidance, self.width, self.height,
        ]  # fmt: skip

    def wire(self, note: gr.State) -> None:
        """A chosen source fills in its prompts; `note` says where they are not all of them."""
        self.source.input(self.take, self.source, [self.prompts, note], **HIDDEN)

    def take(self, source: object) -> tuple[Any, str]:
        """The prompts of a source."""
        try:
            return judging.held_out(self.services, source)
        except SHOWN_ERRORS as error:
            return gr.skip(), shown(error)


def opening(services: Services, asked: Sequence[str]) -> tuple[Any, ...]:
    """What the form opens with: the asked checkpoints, or the newest after its parent, drawn as their run
    drew."""
    ids = judging.first_choice(services, asked)
    run = judging.run_of(services, ids)
    named = judging.sources(services, run)
    source = named[0][1]
    steps, guidance, width, height = judging.sampler_of(run)
    return (
        gr.Dropdown(choices=services.choices(), value=ids, multiselect=True),
        gr.Dropdown(choices=named, value=source),
        judging.held_out(services, source)[0],
        steps,
        guidance,
        width or gr.skip(),  # a field that is folded away takes its value late, over what was typed meanwhile
        height or gr.skip(),
    )


def shut() -> tuple[Any, ...]:
    """The form for who does not start anything: nothing is filled in."""
    return (gr.skip(),) * 7

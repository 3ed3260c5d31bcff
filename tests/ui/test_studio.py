"""The Studio's form takes over exactly what a group was made with; a click that is not kept says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from flowgrpo.config import SamplingConfig
from storage import groups
from storage.engine import Database
from storage.groups import GroupView
from storage.models import Checkpoint
from tests.ui.conftest import Lock, MakeGroup
from ui.forms import GroupForm
from ui.pages import studio
from ui.services import Services

SETTINGS = SamplingConfig(num_steps=5, guidance_scale=2.5, negative_prompt="hat", width=96, height=128)
Click = Callable[[GroupView, str, str], dict[str, Any]]


@pytest.fixture
def page(services: Services, base: Checkpoint) -> Iterator[studio._Page]:
    with gr.Blocks():
        yield studio._Page(services)


@pytest.fixture
def click(page: studio._Page) -> Click:
    """One click on the shown group: the widgets that it changed, by name."""

    def act(view: GroupView, name: str, target: str) -> dict[str, Any]:
        changed = page.act(studio.Seen(view.group.id), SimpleNamespace(act=name, id=target))
        widgets = {**vars(page.form), **vars(page)}
        return {
            key: changed[widget]
            for key, widget in widgets.items()
            if isinstance(widget, gr.blocks.Block) and widget in changed
        }

    return act


@pytest.fixture
def made(make_group: MakeGroup) -> GroupView:
    return make_group(
        [0.1, 0.2, 0.3], prompt="portrait\nbuns", config=SETTINGS.model_dump(), seeds=[3, 8, 21]
    )


def test_seeds_and_settings_of_a_group_ask_for_exactly_that_group(
    services: Services, base: Checkpoint, made: GroupView, click: Click
) -> None:
    typed = click(made, "settings", made.group.id) | click(made, "seeds", made.group.id)
    assert typed.pop("checkpoint") == base.id
    request = services.check_group(base.id, GroupForm(**typed))
    assert request.prompt == made.group.prompt
    assert request.config.model_dump() == made.group.config
    assert list(request.seeds) == made.group.seeds


def test_the_seeds_of_a_group_leave_the_rest_of_the_form_alone(made: GroupView, click: Click) -> None:
    assert click(made, "seeds", made.group.id) == {"seeds": "3, 8, 21", "group_size": 3}


def test_the_settings_of_a_group_leave_the_seeds_alone(made: GroupView, click: Click) -> None:
    assert "seeds" not in click(made, "settings", made.group.id)


def test_the_seed_of_one_image_is_taken_over_alone(made: GroupView, click: Click) -> None:
    assert click(made, "seed", made.images[1].image.id) == {"seeds": "8"}


def test_a_cancel_that_is_not_kept_says_so(
    db: Database, services: Services, base: Checkpoint, click: Click, locked: Lock
) -> None:
    queued = services.generate(base.id, GroupForm(prompt="portrait"))
    view = groups.get_group(db, queued.id)
    with locked():
        changed = click(view, "cancel", queued.id)
    assert list(changed) == ["message"] and "Not saved: another process" in changed["message"]
    assert groups.get_group(db, queued.id).group.state == "queued"
    assert click(view, "cancel", queued.id)["message"] == ""
    assert groups.get_group(db, queued.id).group.state == "canceled"


def test_a_group_that_is_not_kept_leaves_the_form_and_the_canvas(
    db: Database, page: studio._Page, base: Checkpoint, locked: Lock
) -> None:
    typed = ("portrait", "", 2, "5", 8, 1, None, None)
    with locked():
        message, *drawn = page.generate(base.id, *typed)
    assert "Not saved: another process kept the database busy" in message
    assert all(isinstance(one, dict) and "value" not in one for one in drawn)
    assert groups.queued_count(db) == 0
    message, *_ = page.generate(base.id, *typed)
    assert message == "" and groups.queued_count(db) == 1

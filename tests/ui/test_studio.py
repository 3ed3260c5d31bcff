"""The Studio's form takes over exactly what a group was made with; a click that is not kept says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from flowgrpo.config import SamplingConfig
from storage import boards, groups
from storage.engine import Database
from storage.groups import GroupView
from storage.models import Checkpoint
from tests.ui.conftest import Lock, MakeGroup
from ui.canvas import Seen
from ui.components.studio_form import NAMES, TYPED
from ui.forms import GroupForm
from ui.history import Sought
from ui.pages import studio
from ui.services import Services

SETTINGS = SamplingConfig(num_steps=5, guidance_scale=2.5, negative_prompt="hat", width=96, height=128)
Click = Callable[..., dict[str, Any]]


@pytest.fixture
def page(services: Services, base: Checkpoint) -> Iterator[studio._Page]:
    with gr.Blocks():
        yield studio._Page(services)


def clicked(act: str, target: str = "", **more: str) -> Any:
    """What a browser says of a click."""
    return SimpleNamespace(act=act, id=target, **more)


def typed(**fields: object) -> list[object]:
    """The form's widgets in their order."""
    known = {"checkpoint": [], "prompt": "mine", "group_size": 8, "seeds": "5", "num_steps": 8, "chosen": []}
    return [({"guidance_scale": 1, "prompt_set": ""} | known | fields).get(name) for name in NAMES]


@pytest.fixture
def click(page: studio._Page) -> Click:
    """One click on the shown group: the widgets that it changed, by name."""

    def act(view: GroupView, name: str, target: str, before: Any = None) -> dict[str, Any]:
        seen = Seen((view.group.id,))
        changed = page.act(clicked(name, target), None, seen, Sought(), before, *typed())
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


def of_form(changed: dict[str, Any]) -> dict[str, Any]:
    """Only what changed of the form."""
    return {name: changed[name] for name in NAMES if name in changed}


def test_seeds_and_settings_of_a_group_ask_for_exactly_that_group(
    services: Services, base: Checkpoint, made: GroupView, click: Click
) -> None:
    values = of_form(click(made, "settings", made.group.id) | click(made, "seeds", made.group.id))
    assert values["checkpoint"] == [base.id]
    request = services.check_group(base.id, GroupForm(**{name: values[name] for name in TYPED}))
    assert request.prompt == made.group.prompt
    assert request.config.model_dump() == made.group.config
    assert list(request.seeds) == made.group.seeds


def test_the_seeds_of_a_group_leave_the_rest_of_the_form_alone(made: GroupView, click: Click) -> None:
    assert of_form(click(made, "seeds", made.group.id)) == {"seeds": "3, 8, 21", "group_size": 3}


def test_the_settings_of_a_group_leave_the_seeds_alone(made: GroupView, click: Click) -> None:
    assert "seeds" not in click(made, "settings", made.group.id)


def test_the_prompt_of_a_group_leaves_its_settings_alone(made: GroupView, click: Click) -> None:
    changed = of_form(click(made, "prompt", made.group.id))
    assert changed == {"prompt": made.group.prompt, "prompt_set": "", "chosen": []}


def test_the_seed_of_one_image_is_taken_over_alone(made: GroupView, click: Click) -> None:
    assert of_form(click(made, "seed", made.images[1].image.id)) == {"seeds": "8"}


def test_what_was_replaced_comes_back(made: GroupView, click: Click) -> None:
    changed = click(made, "settings", made.group.id)
    assert "Form replaced." in changed["message"] and 'data-act="undo"' in changed["message"]
    back = click(made, "undo", "", changed["before"])
    assert of_form(back)["prompt"] == "mine" and set(of_form(back)) == set(of_form(changed))
    assert (back["message"], back["before"]) == ("", None)


def told(**more: Any) -> str:
    """What the page sends of an image's settings."""
    values = {"prompt": "blue hair", "seeds": "77", "num_steps": 28, "width": 96}
    return json.dumps({"source": "A1111", "values": values, "model": "", "left_out": []} | more)


def test_what_an_image_says_is_taken_over_with_a_way_back(made: GroupView, click: Click) -> None:
    changed = click(made, "recall", told(left_out=["Sampler DPM++ 2M"]))
    assert of_form(changed) == {
        "prompt": "blue hair", "seeds": "77", "num_steps": 28, "width": 96, "group_size": 1, "prompt_set": "",
        "chosen": [],
    }  # fmt: skip
    assert "(A1111). Not taken over: Sampler DPM++ 2M." in changed["message"]
    back = of_form(click(made, "undo", "", changed["before"]))
    assert (back["prompt"], back["seeds"], back["num_steps"]) == ("mine", "5", 8)


def test_the_checkpoint_that_an_image_names_is_chosen_where_it_is_here(
    services: Services, base: Checkpoint, made: GroupView, click: Click
) -> None:
    name = services.choices()[0][0]
    assert of_form(click(made, "recall", told(model=name)))["checkpoint"] == [base.id]
    changed = click(made, "recall", told(model="soft <b> v2"))
    assert "checkpoint" not in of_form(changed)
    assert "soft &lt;b&gt; v2, which is not here" in changed["message"]


@pytest.mark.parametrize("answer", ["{}", told(values={"num_steps": "many"})])
def test_an_image_that_says_nothing_leaves_the_form(made: GroupView, click: Click, answer: str) -> None:
    changed = click(made, "recall", answer)
    assert of_form(changed) == {}
    assert "says nothing of how it was made" in changed["message"]


@pytest.mark.parametrize("act", ["pick", "close", "open", "older", "newest"])
def test_looking_never_touches_the_form(made: GroupView, click: Click, act: str) -> None:
    target = made.images[0].image.id if act == "pick" else made.group.id
    assert of_form(click(made, act, "1" if act == "older" else target)) == {}


def test_more_like_this_asks_for_the_same_with_fresh_seeds(
    services: Services, made: GroupView, click: Click
) -> None:
    changed = click(made, "more", made.group.id)
    (shown,) = services.groups(changed["seen"].groups)
    assert (shown.group.prompt, shown.group.config) == (made.group.prompt, made.group.config)
    assert len(shown.group.seeds) == 3 and shown.group.seeds != made.group.seeds
    assert of_form(changed) == {}


def test_an_image_goes_on_a_board_and_off_it_again(db: Database, page: studio._Page, made: GroupView) -> None:
    image = made.images[0].image.id
    seen = Seen((made.group.id,), image)

    def press(act: str, board: str) -> str:
        changed = page.act(clicked(act, image, board=board), None, seen, Sought(), None, *typed())
        return str(changed[page.lightbox])

    assert "On the new board “mine”." in press("newboard", "mine")
    (view,) = boards.list_boards(db)
    assert view.count == 1
    assert "there is a board" in press("newboard", "mine").lower()
    assert "Taken off the board." in press("board", view.board.id)
    assert boards.list_boards(db)[0].count == 0


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
    fields = typed(checkpoint=[base.id], prompt="portrait", group_size=2)
    with locked():
        message, *drawn = page.generate(None, *fields, Seen(), Sought())
    assert "Not saved: another process kept the database busy" in message
    assert all(isinstance(one, dict) and "value" not in one for one in drawn)
    assert groups.queued_count(db) == 0
    message, *_ = page.generate(None, *fields, Seen(), Sought())
    assert message == "" and groups.queued_count(db) == 1


def test_a_tick_without_news_redraws_nothing(page: studio._Page, made: GroupView) -> None:
    seen = Seen((made.group.id,))
    first = page.draw(seen, Sought(), None)
    assert all(isinstance(html, str) for html in first[1:])
    again = page.tick(None, seen, Sought(), first[0])
    assert all(isinstance(one, dict) and "value" not in one for one in again)


def test_a_search_that_cannot_be_read_is_a_sentence_and_the_page_stays(page: studio._Page) -> None:
    event: Any = SimpleNamespace(_data={"reward": "clip", "min": "much"})
    message, *rest = page.look_for(event, None, Seen())
    assert "The lowest value must be a number" in message
    assert all(isinstance(one, dict) and "value" not in one for one in rest)

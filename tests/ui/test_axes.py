"""X/Y: every pair of values is one image, what is read back is what was written, and refusals are
sentences."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from storage import checkpoints
from storage.engine import Database
from storage.models import Checkpoint
from ui import axes
from ui.axes import KEYS, NONE, AxesForm, AxesPlan
from ui.forms import Refused
from ui.services import Services

VALUES = {
    "prompt": "portrait, buns\nportrait↵smile, 1-4",
    "seed": "3, 9-11",
    "steps": "2 4;8",
    "guidance": "1, 2.5, 3-4",
    "width": "64, 96",
    "height": "80",
    "negative": "–\nhat, 2-3",
}

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"y": "steps", "y_values": "2"}, "X and Y are both “Steps”: choose another one for Y"),
    ({"x_values": ""}, "X has no values: give at least one number of steps."),
    ({"x_values": "4, eight"}, "Steps must be a whole number from 1 to 150, not “eight”."),
    ({"x_values": "0"}, "Steps must be from 1 to 150, not 0."),
    ({"x_values": "8-4"}, "X: “8-4” is no range of at most 40 values."),
    ({"x_values": "1-1000"}, "X: “1-1000” is no range of at most 40 values."),
    ({"x_values": "1-40", "y_values": "1-11"}, "40 by 11 are 440 images; a grid has at most 400"),
    ({"x": "seed", "x_values": "1-30, 41-60"}, "X has 50 values; an axis takes at most 40."),
    ({"x": "checkpoint", "x_checkpoints": []}, "X has no values: give at least one checkpoint."),
    ({"x": "checkpoint", "x_checkpoints": ["nobody"]}, "That checkpoint is not known here"),
    ({"checkpoint": None}, "No checkpoint is chosen"),
    ({"prompt": " "}, "The prompt is empty"),
    ({"width": 65}, "The width must be a multiple of 8 for this base; 65 is not."),
    ({"x": "width", "x_values": "64, 65"}, "The width must be a multiple of 8"),
    ({"x": "anything"}, "Choose what X runs over."),
    ({"x": "prompt", "x_values": "x" * 3000}, "has 3,000 characters"),
]


def form(base: Checkpoint, x: str = "steps", y: str = "guidance", **changes: object) -> AxesForm:
    known: dict[str, Any] = {"checkpoint": base.id, "prompt": "portrait, red hair", "x": x, "y": y}
    known |= {f"{side}_checkpoints": [base.id] for side in ("x", "y")}
    known |= {f"{side}_values": VALUES.get(key, "") for side, key in (("x", x), ("y", y))}
    return AxesForm(**known | changes)


def plan(services: Services, asked: AxesForm) -> AxesPlan:
    return axes.check(services, asked)


def test_each_cell_has_its_column_s_and_its_row_s_value_and_the_rest_is_fixed(
    services: Services, base: Checkpoint
) -> None:
    made = plan(services, form(base, x_values="4, 8", y_values="1, 3", seed=9, negative="hat", height=96))
    drawn = [[(one.config["num_steps"], one.config["guidance_scale"]) for one in row] for row in made.wanted]
    assert drawn == [[(4, 1.0), (8, 1.0)], [(4, 3.0), (8, 3.0)]]
    for one in made.flat:
        assert (one.prompt, one.checkpoint_id, one.seeds) == ("portrait, red hair", base.id, (9,))
        assert (one.config["negative_prompt"], one.config["height"]) == ("hat", 96)
    assert made.columns == ("steps 4", "steps 8") and made.rows == ("no guidance", "guidance 3")


def test_a_grid_may_have_one_row(services: Services, base: Checkpoint) -> None:
    made = plan(services, form(base, x="seed", y=NONE, x_values="1-5"))
    assert [one.seeds for one in made.flat] == [(1,), (2,), (3,), (4,), (5,)]
    assert made.rows == ("",)


def test_any_two_parameters_are_axes_and_are_read_back_as_they_were_written(
    services: Services, base: Checkpoint
) -> None:
    for x, y in permutations(KEYS, 2):
        made = plan(services, form(base, x, y))
        assert plan(services, axes.form_of(axes.Spec.load(made.spec.dump()))) == made
        assert len({(one.cast, one.seeds) for one in made.flat}) == len(made.flat)


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("4, 8, 16", ("4", "8", "16")),
        ("1-4", ("1", "2", "3", "4")),
        ("2–3 8; 2", ("2", "3", "8")),
        (" 7 ", ("7",)),
    ],
)
def test_values_are_a_list_or_a_range_each_once(base: Checkpoint, typed: str, read: tuple[str, ...]) -> None:
    assert axes.spec_of(form(base, x_values=typed)).x.values == read


def test_what_an_axis_takes_the_place_of_does_not_tell_grids_apart(base: Checkpoint) -> None:
    one, other = form(base, steps=5), form(base, steps=50)
    assert axes.spec_of(one) == axes.spec_of(other)


def test_a_grid_that_cannot_be_gets_a_sentence(services: Services, base: Checkpoint) -> None:
    for changes, sentence in REFUSED:
        with pytest.raises(Refused) as refused:
            plan(services, replace(form(base), **changes))
        assert sentence in str(refused.value)


def test_checkpoints_of_two_bases_do_not_stand_beside_each_other(
    services: Services, db: Database, base: Checkpoint
) -> None:
    other = checkpoints.register_base(db, name="other", source="nowhere", family="StableDiffusionXLPipeline")
    with pytest.raises(Refused, match="different bases"):
        plan(services, form(base, x="checkpoint", x_checkpoints=[base.id, other.id]))


def test_a_saved_grid_that_makes_no_sense_is_refused_in_words(services: Services) -> None:
    whole: dict[str, Any] = {"x": None, "y": None, "rest": {}}
    for broken in (dict[str, Any](), whole, whole | {"x": 3}):
        with pytest.raises(Refused, match="That saved grid"):
            axes.opened(services, broken)

"""A Fix button mends what its line says, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flowgrpo.config import DEFAULT_WEIGHTS
from storage.models import Checkpoint
from ui import fixes, tuning
from ui.forms import Refused, RunForm
from ui.services import Services

PRESET = tuning.preset_form("smoke")


def form(**typed: object) -> RunForm:
    start = {"prompts": "portrait, smile\nportrait, buns", "held_out": "portrait, red hair"}
    return replace(PRESET, **{**start, **typed})  # type: ignore[arg-type]


def lines(services: Services, base: Checkpoint, typed: RunForm) -> dict[str, str]:
    """Fix to the sentence that it stands beside."""
    return {check.fix: check.text for check in tuning.check(services, base.id, typed)[1] if check.fix}


@pytest.mark.parametrize(
    ("typed", "fix"),
    [
        ({"held_out": ""}, "hold_out"),
        ({"groups_per_update": 40}, "groups"),
        ({"prompts": "portrait, wistful, smile\nportrait, buns"}, "words"),
        ({"prompts": "portrait\nportrait, buns"}, "unscored"),
        ({"group_size": 2}, "size"),
        ({"weights": {"verifier": 1.0, "clip": 0.0, "quality": 0.0}}, "rewards"),
        ({"references": "/nowhere/at/all"}, "references"),
    ],
)
def test_after_its_fix_a_line_is_gone(
    services: Services, base: Checkpoint, typed: dict[str, object], fix: str
) -> None:
    before = form(**typed)
    assert fix in lines(services, base, before)
    mended = fixes.fixed(before, fix, PRESET)
    assert fix not in lines(services, base, mended)
    assert mended.seed == before.seed and mended.name == before.name


def test_a_form_that_was_put_in_order_has_nothing_left_to_fix(services: Services, base: Checkpoint) -> None:
    assert lines(services, base, form()) == {}


def test_holding_out_keeps_every_prompt_in_one_list() -> None:
    prompts = [f"portrait, smile, {number}" for number in range(9)]
    mended = fixes.fixed(form(prompts="\n".join(prompts), held_out=""), "hold_out", PRESET)
    train, held_out = str(mended.prompts).split("\n"), str(mended.held_out).split("\n")
    assert sorted(train + held_out) == prompts and len(held_out) == 2


@pytest.mark.parametrize(
    ("typed", "fix"),
    [
        ({"prompts": ""}, "starter"),
        ({"held_out": "portrait, smile"}, "apart"),
        ({"weights": {"verifier": 0}}, "weights"),
        ({"num_updates": -3}, "numbers"),
        ({"guidance_scale": "much"}, "numbers"),
    ],
)
def test_a_form_that_cannot_be_read_can_be_after_its_fix(
    services: Services, base: Checkpoint, typed: dict[str, object], fix: str
) -> None:
    before = form(**typed)
    with pytest.raises(Refused):
        tuning.check(services, base.id, before)
    assert fixes.for_refusal(before) == fix
    tuning.check(services, base.id, fixes.fixed(before, fix, PRESET))


def test_a_prompt_in_both_lists_is_never_lost() -> None:
    both = form(prompts="portrait, smile", held_out="portrait, smile")
    mended = fixes.fixed(both, "apart", PRESET)
    assert (mended.prompts, mended.held_out) == ("portrait, smile", "")


def test_a_reward_is_left_out_as_weight_and_as_judge() -> None:
    mended = fixes.fixed(form(weights=DEFAULT_WEIGHTS, judges="clip, other"), "drop:clip", PRESET)
    assert mended.weights == {**DEFAULT_WEIGHTS, "clip": 0.0} and mended.judges == "other"


def test_an_unknown_fix_is_refused() -> None:
    with pytest.raises(Refused, match="reload"):
        fixes.fixed(form(), "everything", PRESET)

"""What people type is refused in a sentence, or becomes exactly what they meant."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowgrpo.config import MAX_SEED
from flowgrpo.presets import STARTER_PRESETS
from ui import forms
from ui.forms import GroupForm, Refused, RunForm


def check(**typed: object) -> forms.GroupRequest:
    return forms.check_group(GroupForm(**{"prompt": "portrait", **typed}), factor=8, size=64)


def test_a_plain_form_becomes_a_request_of_the_base_size() -> None:
    request = check(prompt="  portrait, smile ", group_size=3, seeds="7")
    assert (request.prompt, request.seeds) == ("portrait, smile", (7, 8, 9))
    assert (request.config.width, request.config.height, request.config.num_steps) == (64, 64, 16)


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ({"prompt": ""}, "The prompt is empty"),
        ({"prompt": " \n "}, "The prompt is empty"),
        ({"prompt": None}, "The prompt is empty"),
        ({"prompt": ["a"]}, "The prompt is empty"),
        ({"prompt": "x" * 10_000}, "The prompt has 10,000 characters"),
        ({"prompt": "a\x00b"}, "control characters"),
        ({"prompt": "a\ud800b"}, "control characters"),
        ({"negative": "x" * 10_000}, "The negative prompt has 10,000 characters"),
        ({"group_size": 0}, "The group size must be from 1 to 64, not 0"),
        ({"group_size": 1000}, "The group size must be from 1 to 64, not 1,000"),
        ({"group_size": None}, "whole number from 1 to 64, not nothing"),
        ({"group_size": 2.5}, "whole number"),
        ({"group_size": True}, "whole number"),
        ({"group_size": float("nan")}, "whole number"),
        ({"group_size": "9" * 400}, "whole number"),
        ({"num_steps": 0}, "Steps must be from 1 to 150, not 0"),
        ({"num_steps": -3}, "Steps must be from 1 to 150"),
        ({"guidance_scale": 0.5}, "Guidance must be a number from 1 to 30"),
        ({"guidance_scale": float("inf")}, "Guidance must be a number"),
        ({"guidance_scale": "lots"}, "“lots”"),
        ({"width": 65}, "The width must be a multiple of 8 for this base; 65 is not. Use 64?"),
        ({"height": 4096}, "The height must be from 16 to 2,048"),
        ({"seeds": "abc"}, "Seeds are whole numbers from 0 to 4,294,967,295, not “abc”"),
        ({"seeds": "-5"}, "Seeds are whole numbers"),
        ({"seeds": "1.5"}, "Seeds are whole numbers"),
        ({"seeds": "٣"}, "Seeds are whole numbers"),
        ({"seeds": "1, 2, 3"}, "3 seeds for a group of 8"),
        ({"seeds": "9-2"}, "is not a range"),
        ({"seeds": "0-4000000000"}, "is not a range"),
        ({"seeds": "1, 1", "group_size": 2}, "named twice"),
        ({"seeds": str(MAX_SEED), "group_size": 2}, "A seed is at most"),
    ],
)
def test_bad_input_gets_a_sentence(typed: dict[str, object], sentence: str) -> None:
    with pytest.raises(Refused, match=None) as refused:
        check(**typed)
    assert sentence in str(refused.value)


@pytest.mark.parametrize("typed", ["4021-4023", "4021 – 4023", "4021, 4022, 4023", "4021", "4021;4022 4023"])
def test_seeds_are_read_in_every_way_people_write_them(typed: str) -> None:
    assert forms.parse_seeds(typed, 3) == (4021, 4022, 4023)


def test_no_seeds_means_new_ones() -> None:
    assert forms.parse_seeds(" ", 3, fresh=lambda below: below - 1) == (999_999, 1_000_000, 1_000_001)


@given(st.lists(st.integers(0, MAX_SEED), min_size=1, max_size=12, unique=True))
def test_shown_seeds_are_read_back_as_they_were(seeds: list[int]) -> None:
    assert list(forms.parse_seeds(forms.show_seeds(seeds), len(seeds))) == seeds


@given(st.text(max_size=40))
def test_any_text_in_the_seed_field_is_read_or_refused(text: str) -> None:
    try:
        assert len(forms.parse_seeds(text, 4)) == 4
    except Refused as refused:
        assert str(refused).endswith((".", "?"))  # noqa: PT017 - either outcome is right, and is judged


def run_form(**typed: Any) -> RunForm:
    fields: dict[str, Any] = {
        "prompts": "portrait, smile\nportrait, buns",
        "weights": {"verifier": 1},
        **typed,
    }
    return RunForm(**fields)


@pytest.mark.parametrize("name", ["fast and faithful", "thorough"])
def test_what_the_form_has_no_field_for_comes_from_the_preset(name: str) -> None:
    config = forms.check_run(run_form(preset=name), width=64, height=64)
    preset = STARTER_PRESETS[name](config.prompts)
    assert (config.algorithm, config.advantages) == (preset.algorithm, preset.advantages)
    assert config.rollout.window == preset.rollout.window == "random"
    assert config.update.decay == preset.update.decay == "linear"
    assert config.update.reference_guidance == preset.update.reference_guidance
    assert config.update.kl_steps == preset.update.kl_steps


@pytest.mark.parametrize("typed", [{"guidance_scale": 2.0}, {"kl_weight": 0}])
def test_a_guided_reference_is_for_runs_without_guidance_and_with_a_kl(typed: dict[str, Any]) -> None:
    config = forms.check_run(run_form(preset="fast and faithful", **typed), width=64, height=64)
    assert config.update.reference_guidance is None
    assert config.update.kl_steps == 0 or config.update.kl_weight > 0


def test_an_unknown_preset_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(Refused, match="The presets are smoke, fast and faithful, thorough"):
        forms.check_run(run_form(preset="fastest"), width=64, height=64)


def test_a_run_form_becomes_a_config() -> None:
    config = forms.check_run(run_form(held_out="portrait, serious", num_updates=2), width=64, height=64)
    assert config.prompts == ("portrait, smile", "portrait, buns")
    assert config.held_out_prompts == ("portrait, serious",)
    assert (config.num_updates, config.checkpoint_every, config.sample_every) == (2, 1, 1)
    assert config.reward_weights == {"verifier": 1.0}
    assert config.judges == ()
    assert config.references is None


@pytest.mark.parametrize("typed", ["clip, quality,clip ", ["clip", " quality "], ("clip", "quality", "")])
def test_judges_are_read_as_a_list_and_as_a_text_with_commas(typed: object) -> None:
    assert forms.check_run(run_form(judges=typed), width=64, height=64).judges == ("clip", "quality")


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ({"prompts": ""}, "There are no training prompts"),
        ({"prompts": "\n \n"}, "There are no training prompts"),
        ({"prompts": "ok\n" + "x" * 5000}, "Line 2 of the training prompts has 5,000 characters"),
        ({"weights": {"verifier": 0, "clip": 0.0}}, "All reward weights are zero"),
        ({"weights": {"verifier": None}}, "All reward weights are zero"),
        ({"weights": {"verifier": "much"}}, "The weight of verifier must be a number"),
        ({"weights": {"verifier": float("nan")}}, "The weight of verifier must be a number"),
        ({"held_out": "portrait, smile"}, "is both a training and a held-out prompt"),
        ({"num_updates": 0}, "Updates must be from 1"),
        ({"group_size": 1}, "The group size must be from 2"),
        ({"num_steps": 1}, "Steps must be from 2"),
        ({"learning_rate": 0}, "The learning rate must be a number"),
        ({"learning_rate": float("nan")}, "The learning rate must be a number"),
        ({"kl_weight": -1}, "The KL weight must be a number"),
        ({"rank": 0}, "The LoRA rank must be from 1"),
        ({"seed": "x"}, "The seed must be a whole number"),
        ({"judges": {"clip": 1}}, "The judges must be names of rewards"),
        ({"references": 7}, "The folder of wanted images must be a path, not “7”"),
        ({"references": "a\x00b"}, "The path of the wanted images holds control characters"),
    ],
)
def test_a_run_that_cannot_be_gets_a_sentence(typed: dict[str, object], sentence: str) -> None:
    with pytest.raises(Refused) as refused:
        forms.check_run(run_form(**typed), width=64, height=64)
    assert sentence in str(refused.value)


def test_a_short_rollout_trains_fewer_steps() -> None:
    assert forms.check_run(run_form(num_steps=2), width=64, height=64).rollout.window_size == 1

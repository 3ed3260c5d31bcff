from __future__ import annotations

import random

import pytest

from flowgrpo.starter import vocabulary as v
from flowgrpo.starter.portraits import caption, sample_attributes


@pytest.mark.parametrize("seed", range(20))
def test_reading_a_caption_gives_back_the_attributes_that_it_was_written_from(seed: int) -> None:
    attributes = sample_attributes(random.Random(seed))
    assert v.parse_prompt(caption(attributes)) == attributes
    assert v.parse_prompt(caption(attributes, random.Random(seed))) == attributes


def test_a_prompt_of_unknown_words_asks_for_nothing() -> None:
    assert v.parse_prompt("a castle on a hill, oil painting") == {}


def test_underscores_case_and_spaces_do_not_hide_a_tag() -> None:
    assert v.parse_prompt("Long_Hair,  RED   hair")["hair style"] == "long hair"
    assert v.parse_prompt("Long_Hair,  RED   hair")["hair colour"] == "red hair"


def test_an_optional_slot_that_is_not_named_asks_for_its_absence_and_any_other_is_free() -> None:
    asked = v.parse_prompt("portrait, smile")
    assert asked == {"mouth": "smile", "eyewear": "no eyewear", "detail": "no detail"}


def test_the_last_tag_of_a_slot_wins() -> None:
    assert v.parse_prompt("red hair, blue hair")["hair colour"] == "blue hair"


def test_unknown_words_are_named_once_each_in_order() -> None:
    assert v.unknown_words("portrait, zebra hair, a zebra, red_hair") == ["zebra", "a"]


def test_no_tag_belongs_to_two_slots() -> None:
    assert sum(len(slot.values) for slot in v.SLOTS) == len(v.TAG_SLOT)


@pytest.mark.parametrize("seed", range(5))
def test_open_prompts_are_all_known_words_each_once_and_leave_a_slot_to_taste(seed: int) -> None:
    found = v.open_prompts(40, random.Random(seed))
    assert len(set(found)) == 40
    free = {slot.name for slot in v.SLOTS if not slot.absent}
    for prompt in found:
        assert v.unknown_words(prompt) == []
        assert free - set(v.parse_prompt(prompt))


def test_open_prompts_avoid_what_they_are_told_to() -> None:
    first = v.open_prompts(30, random.Random(1))
    assert not set(v.open_prompts(30, random.Random(1), avoid=first)) & set(first)

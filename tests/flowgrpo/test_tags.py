from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flowgrpo.tags import TagOptions, caption_for

PLAIN = TagOptions(shuffle_tags=False, caption_dropout=0.0)
"""Cleans and changes nothing else."""
FACES = [
    "0_0", "(o)_(o)", "+_+", "+_-", "._.", "<o>_<o>", "<|>_<|>", "=_=", ">_<", "3_3", "6_9", ">_o", "@_@",
    "^_^", "o_o", "u_u", "x_x", "|_|", "||_||",
]  # fmt: skip
"""The emoticons that the taggers trained on Danbooru keep (SmilingWolf's list)."""

tags = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters=",\n\\", exclude_categories=["Cs"]), max_size=8)
)
seeds = st.integers(0, 2**63 - 1)


def plain(caption: str, **options: object) -> str:
    return caption_for(caption, PLAIN.model_copy(update=options), Random(0))


def shuffled(caption: str, seed: int, **options: object) -> list[str]:
    made = TagOptions(caption_dropout=0.0).model_copy(update=options)
    return caption_for(caption, made, Random(seed)).split(", ")


def names(count: int) -> str:
    return ", ".join(f"tag {number}" for number in range(count))


def test_tags_are_stripped_and_stand_once() -> None:
    assert plain(" 1girl ,solo,, long_hair,1girl,\nLong Hair, smile ") == "1girl, solo, long hair, smile"


@pytest.mark.parametrize("face", FACES)
def test_an_emoticon_keeps_its_underscore(face: str) -> None:
    escaped = face.replace("(", r"\(").replace(")", r"\)")
    assert plain(f"long_hair, {escaped}") == f"long hair, {face}"


def test_underscores_stay_where_that_is_wished() -> None:
    assert plain("long_hair, ^_^", underscores_to_blanks=False) == "long_hair, ^_^"


def test_escaped_parentheses_are_learned_without_their_backslash_and_the_tag_stays_whole() -> None:
    assert plain(r"saber_\(fate\), saber (fate), a\b") == r"saber (fate), a\b"


@given(words=tags)
def test_cleaning_twice_is_cleaning_once(words: list[str]) -> None:
    once = plain(",".join(words))
    assert plain(once) == once


@given(words=tags, seed=seeds, keep=st.integers(0, 5))
def test_a_shuffle_loses_nothing_and_keeps_the_front(words: list[str], seed: int, keep: int) -> None:
    before = plain(",".join(words)).split(", ")
    after = shuffled(",".join(words), seed, keep_tags=keep)
    assert sorted(after) == sorted(before)
    assert after[:keep] == before[:keep]


@given(seed=seeds, keep=st.integers(0, 3))
def test_dropped_tags_leave_the_order_of_the_others_as_it_was(seed: int, keep: int) -> None:
    whole = shuffled(names(12), seed, keep_tags=keep)
    part = shuffled(names(12), seed, keep_tags=keep, tag_dropout=0.5)
    assert part[:keep] == whole[:keep]
    assert [tag for tag in whole if tag in part] == [tag for tag in part if tag]


def test_a_caption_follows_from_its_generator_alone() -> None:
    options = TagOptions(tag_dropout=0.3)
    drawn = [caption_for(names(9), options, Random(seed)) for seed in range(50)]
    assert drawn == [caption_for(names(9), options, Random(seed)) for seed in range(50)]
    assert len(set(drawn)) > 40


def test_every_tag_is_as_likely_at_every_place() -> None:
    first = [shuffled("a, b, c, d", seed)[0] for seed in range(4000)]
    assert all(abs(first.count(tag) / 4000 - 1 / 4) < 0.03 for tag in "abcd")


def test_tags_and_captions_are_left_out_as_often_as_was_asked() -> None:
    lengths = [len(shuffled(names(10), seed, tag_dropout=0.3)) for seed in range(1000)]
    assert abs(sum(lengths) / 10_000 - 0.7) < 0.02
    options = TagOptions(caption_dropout=0.1, trigger="sks")
    empty = [caption_for(names(3), options, Random(seed)) for seed in range(5000)].count("")
    assert abs(empty / 5000 - 0.1) < 0.02


def test_without_a_caption_nothing_is_left_not_even_the_trigger() -> None:
    always = TagOptions(caption_dropout=1.0, trigger="sks", keep_tags=2)
    assert caption_for("1girl, solo", always, Random(0)) == ""


def test_the_trigger_stands_first_and_once_and_as_it_is_spelled() -> None:
    assert plain("1girl, My_Style v2, solo", trigger="my_style_v2") == "my_style_v2, 1girl, solo"
    assert plain("", trigger="sks") == "sks"
    for seed in range(20):
        assert shuffled("1girl, solo, smile", seed, trigger="sks", keep_tags=1)[:2] == ["sks", "1girl"]


def test_tags_are_replaced_and_dropped_however_they_are_spelled() -> None:
    options = {
        "replace_tags": {"Blue Hair": "azure_hair", "girl": "1girl"},
        "drop_tags": ("bad_id", "WATERMARK"),
    }
    caption = "blue_hair, bad id, girl, Watermark, 1girl, smile"
    assert plain(caption, **options) == "azure hair, 1girl, smile"


def test_a_dropped_tag_does_not_come_back_in_place_of_another() -> None:
    assert plain("a, b", replace_tags={"a": "c"}, drop_tags=("c",)) == "b"
    with pytest.raises(ValidationError, match="one of drop_tags"):
        TagOptions(trigger="my_style", drop_tags=("My Style",))


def test_danboorus_own_tag_strings_are_split_at_blanks() -> None:
    caption = "1girl long_hair saber_(fate) ^_^"
    assert plain(caption, separator="blank") == "1girl, long hair, saber (fate), ^_^"


@given(seed=seeds)
def test_a_sentence_is_learned_word_for_word(seed: int) -> None:
    sentence = "A cat_1, on a mat, looks at a cat, on a mat."
    words = TagOptions(separator="none", caption_dropout=0.0, tag_dropout=0.9, trigger="sks")
    assert caption_for(f" {sentence}\n", words, Random(seed)) == f"sks, {sentence}"


def test_options_out_of_range_and_unknown_ones_are_refused() -> None:
    for wrong in ({"tag_dropout": 1.0}, {"caption_dropout": -0.1}, {"keep_tags": -1}, {"shuffel": True}):
        with pytest.raises(ValidationError):
            TagOptions.model_validate(wrong)

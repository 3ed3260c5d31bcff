from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowgrpo.rewards.texts import parts, plain

WORDS = st.text("abc", min_size=1, max_size=6)
TAGS = st.lists(st.lists(WORDS, min_size=1, max_size=6).map(" ".join), min_size=1, max_size=12)


def fits(text: str) -> bool:
    return len(text.split()) <= 4


@given(TAGS)
def test_parts_hold_every_word_in_its_order_and_each_fits(tags: list[str]) -> None:
    prompt = ", ".join(tags)
    found = parts(prompt, fits)
    assert [word.strip(",") for part in found for word in part.split()] == " ".join(tags).split()
    assert all(map(fits, found))


@given(TAGS)
def test_no_two_neighbours_would_have_fitted_together(tags: list[str]) -> None:
    found = parts(", ".join(tags), fits)
    assert not any(fits(f"{a}, {b}") for a, b in pairwise(found))


@pytest.mark.parametrize("prompt", ["", "portrait", "portrait, red hair"])
def test_a_prompt_that_fits_is_read_as_it_stands(prompt: str) -> None:
    assert parts(prompt, fits) == [prompt]


def test_a_word_that_does_not_fit_is_left_to_the_tokenizer() -> None:
    assert parts("a b, endless", lambda text: len(text) < 4) == ["a b", "endless"]


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("1girl, long_hair,blue_eyes", "1girl, long hair, blue eyes"),
        ("masterpiece, best quality, score_8_up, a cat", "a cat"),
        ("a cat, rating:safe, absurdres, highres", "a cat"),
        ("smile, ^_^, o_o", "smile, ^_^, o_o"),
        ("masterpiece", "masterpiece"),
        ("a photo of a masterpiece in a museum", "a photo of a masterpiece in a museum"),
    ],
)
def test_tags_are_read_as_words_and_praise_is_not_content(prompt: str, words: str) -> None:
    assert plain(prompt) == words

"""Lists of prompts as people have them, and what is told of what was changed."""

from __future__ import annotations

import json
import unicodedata
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.lookup import prompt_hash
from ui.forms import Refused
from ui.prompt_files import Line, as_the_list_says, divided, kind_of, read
from ui.prompt_writing import written

WORDS = st.text(st.sampled_from("abcé ü雪-,.'"), min_size=1, max_size=20).filter(
    lambda text: bool(text.strip()) and "--" not in text
)
LISTS = st.lists(WORDS, min_size=1, max_size=30)


def texts(lines: list[Line] | tuple[Line, ...]) -> list[str]:
    return [line.text for line in lines]


@given(LISTS)
def test_every_prompt_is_read_once_tidy_and_in_order(prompts: list[str]) -> None:
    found = texts(read("\n".join(prompts), "list.txt").lines)
    tidy = [" ".join(unicodedata.normalize("NFC", one).split()) for one in prompts]
    assert found == [
        one for place, one in enumerate(tidy) if prompt_hash(one) not in map(prompt_hash, tidy[:place])
    ]


@given(LISTS)
def test_what_is_written_is_read_as_the_same_list(prompts: list[str]) -> None:
    lines = read("\n".join(prompts), "list.txt").lines
    assert texts(read(written(lines, "txt"), "a.txt").lines) == texts(lines)
    train, held_out = divided(lines, 0.5)
    rows = [Line(0, one.text, "train", {"n": 1}) for one in train]
    rows += [Line(0, one.text, "held_out") for one in held_out]
    again = read(written(rows, "jsonl"), "a.jsonl").lines
    assert [(one.text, one.split, one.attributes) for one in again] == [
        (one.text, one.split, one.attributes) for one in rows
    ]


ATTRIBUTES = st.fixed_dictionaries(
    {},
    optional={
        "negative_prompt": st.text(max_size=12) | st.integers(),
        "width": st.integers(0, 4096) | st.text("0123 x", max_size=4) | st.booleans(),
        "guidance_scale": st.floats(1, 30) | st.integers(1, 30),
        "seed": st.integers(0, 2**32),
        "style": st.text(max_size=12),
        "Odd key;": st.text(max_size=5),
        "attributes": st.text(max_size=5) | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
        "tags": st.lists(st.text(max_size=5), max_size=3) | st.none(),
    },
)


@given(st.lists(st.tuples(WORDS, ATTRIBUTES, st.sampled_from(["train", "held_out"])), min_size=1, max_size=8))
def test_out_and_in_again_gives_the_same_prompts_splits_and_what_stands_beside_them(
    rows: list[tuple[str, dict[str, object], str]],
) -> None:
    told = "\n".join(json.dumps({"prompt": text, "split": split, **beside}) for text, beside, split in rows)
    lines = read(told, "a.jsonl").lines
    for kind in ("csv", "jsonl"):
        again = read(written(lines, kind), f"a.{kind}").lines
        assert [replace(one, number=0) for one in again] == [replace(one, number=0) for one in lines]
    plain = read(written(lines, "txt"), "a.txt")
    assert [(one.text, one.split) for one in plain.lines] == [(one.text, one.split) for one in lines]
    for one, line in zip(plain.lines, lines, strict=True):
        assert one.attributes.items() <= line.attributes.items()
        if one.attributes != line.attributes:
            assert any(note.startswith("Comments were left out: line 1") for note in plain.notes)


def test_a_text_file_says_what_it_cannot_hold_and_holds_kohyas_flags() -> None:
    beside = {"negative_prompt": "blurry", "width": 512, "guidance_scale": 6.5, "tag": "counting"}
    text = written([Line(1, "fox", "train", beside), Line(2, "# bird", "held_out")], "txt")
    assert text == (
        "# Not in a .txt, but in a .csv or .jsonl: tag\n"
        "# Not read back as they are from a .txt, but from a .csv or .jsonl: 1 prompts\n"
        "# split: train\nfox --n blurry --w 512 --l 6.5\n# split: held_out\n# bird\n"
    )


@given(LISTS, st.floats(0, 0.99))
def test_a_share_divides_every_list_the_same_way_whatever_its_order(prompts: list[str], share: float) -> None:
    lines = read("\n".join(prompts), "list.txt").lines
    train, held_out = divided(lines, share)
    assert sorted(texts([*train, *held_out])) == sorted(texts(lines))
    assert train
    assert bool(held_out) == (share > 0 and len(lines) > 1)
    again = divided(lines[::-1], share)
    assert [sorted(texts(one)) for one in again] == [sorted(texts(train)), sorted(texts(held_out))]


@given(st.lists(WORDS, min_size=2, max_size=20, unique_by=prompt_hash), st.floats(0.1, 0.7))
def test_a_prompt_keeps_its_split_when_others_come(prompts: list[str], share: float) -> None:
    lines = read("\n".join(prompts), "list.txt").lines
    fixed = [Line(0, f"portrait {number}") for number in range(40)]  # some fall on either side of any share
    before, after = (set(texts(divided(some, share)[1])) for some in (fixed, [*fixed, *lines]))
    assert after & set(texts(fixed)) == before


@given(st.lists(WORDS, min_size=3, max_size=20, unique_by=prompt_hash), st.floats(0.1, 0.9))
def test_what_was_held_out_once_stays_so_however_few_prompts_there_are(
    prompts: list[str], share: float
) -> None:
    lines = read("\n".join(prompts), "list.txt").lines
    held = texts(divided(lines[:2], share)[1])
    assert set(held) <= set(texts(divided(lines, share, {*map(prompt_hash, held)})[1]))


def test_about_the_share_is_held_out() -> None:
    lines = [Line(0, f"prompt {number}") for number in range(2000)]
    assert 340 <= len(divided(lines, 0.2)[1]) <= 460


def test_duplicates_are_left_out_and_told_with_their_lines() -> None:
    found = read("a red fox\nA  RED fox\nblue\nblue\n", "x.txt")
    assert texts(found.lines) == ["a red fox", "blue"]
    assert found.notes == ("2 duplicates were left out: lines 2, 4.",)


def test_flags_of_kohya_are_taken_off_and_kept_beside_the_prompt() -> None:
    line = "a fox --n blurry, low quality --w 512 --h 768 --d 7 --l 6.5 --s 20"
    found = read(line)
    assert texts(found.lines) == ["a fox"]
    assert found.lines[0].attributes == {
        "negative_prompt": "blurry, low quality", "width": 512, "height": 768, "seed": 7,
        "guidance_scale": 6.5, "num_steps": 20,
    }  # fmt: skip
    assert found.notes == (
        "Flags were taken off the prompts and kept beside them: --n, --w, --h, --d, --l, --s. Studio and "
        "Train draw every prompt of a set with settings of their own.",
    )


def test_a_flag_that_cannot_be_read_is_told_and_one_that_kohya_has_not_stays_in_the_prompt() -> None:
    found = read("a fox --w wide --ar 16:9\nb --d")
    assert texts(found.lines) == ["a fox", "b"]
    assert found.notes == (
        "Flags that could not be read or mean nothing here were left out: line 1: --w wide --ar 16:9; "
        "line 2: --d.",
    )
    others = read("a fox --ss euler_a --n bad --g 3.5")
    assert (texts(others.lines), others.lines[0].attributes) == (["a fox"], {"negative_prompt": "bad"})
    assert "mean nothing here were left out: line 1: --ss euler_a; line 1: --g 3.5." in others.notes[1]
    assert texts(read("a fox --ar 16:9").lines) == ["a fox --ar 16:9"]


def test_comments_and_empty_lines_are_no_prompts() -> None:
    found = read("# mine\n\nfox\n   \n#more\n")
    assert texts(found.lines) == ["fox"]
    assert found.notes == ("Comments were left out: lines 1, 5.",)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_table_has_prompts_splits_and_what_stands_beside_them(mark: str) -> None:
    rows = [["Prompt", "split", "Style"], ['"a, b"', "test", "ink"], ["c", "train", ""], ["d", "", "oil"]]
    found = read("\ufeff" + "\r\n".join(mark.join(row) for row in rows), "list.csv")
    assert [(one.text, one.split, one.attributes) for one in found.lines] == [
        ("a, b", "held_out", {"style": "ink"}), ("c", "train", {}), ("d", None, {"style": "oil"}),
    ]  # fmt: skip
    assert [texts(some) for some in as_the_list_says(found.lines)] == [["c", "d"], ["a, b"]]


def test_json_lines_keep_everything_that_stands_beside_the_prompt() -> None:
    row = {"prompt": "two dogs", "tag": "counting", "include": [{"class": "dog", "count": 2}]}
    found = read(json.dumps(row) + "\n" + json.dumps({"prompt": "fox", "split": "held-out"}))
    assert (found.kind, texts(found.lines)) == ("jsonl", ["two dogs", "fox"])
    assert found.lines[0].attributes == {"tag": "counting", "include": [{"class": "dog", "count": 2}]}
    assert found.lines[1].split == "held_out"


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("fox, red", "", "txt"),
        ("prompt\nfox", "", "csv"),
        ("prompt,split\nfox,train", "", "csv"),
        ("a prompt, about a fox", "", "txt"),
        ('{"prompt": "fox"}', "", "jsonl"),
        ("fox", "foxes.CSV", "csv"),
        ("prompt\nfox", "foxes.txt", "txt"),
    ],
)
def test_what_a_list_is_follows_from_its_ending_or_else_from_how_it_begins(
    text: str, name: str, expected: str
) -> None:
    assert kind_of(text, name) == expected


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("", "", "no prompts"),
        (" \n#only\n", "", "no prompts"),
        ("fox\x00", "a.txt", "Line 1 holds control characters"),
        ("x" * 2001, "a.txt", "Line 1 has 2,001 characters"),
        ("--w 512", "a.txt", "Line 1 is empty"),
        ("text,split\nfox,train", "a.csv", "one column must be called prompt"),
        ("prompt,split\nfox,maybe", "a.csv", "Line 2 has the split maybe"),
        ('{"prompt": "fox"}\n{oops', "a.jsonl", "Line 2 is no JSON"),
        ('{"text": "fox"}', "a.jsonl", "Line 1 has no prompt"),
        ('{"prompt": "fox", "w": NaN}', "a.jsonl", "Line 1 is no JSON"),
        ("[1]", "a.jsonl", "Line 1 has no prompt"),
        ("é" * 450_001, "", "divide it"),
    ],
)
def test_a_list_that_cannot_be_read_says_where_and_what_to_do(text: str, name: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        read(text, name)


@given(st.text(max_size=200), st.sampled_from(["a.txt", "a.csv", "a.jsonl", ""]))
def test_any_text_is_a_list_or_a_sentence(text: str, name: str) -> None:
    with suppress(Refused):  # any other error is a bug
        lines = read(text, name).lines
        assert lines
        assert all(line.text == " ".join(line.text.split()) for line in lines)

from __future__ import annotations

from typing import Any

import pytest

from flowgrpo.rewards.options import check_schema, read_options, with_defaults

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "gain": {"type": "number", "default": 1.0, "minimum": 0.5, "maximum": 2.0},
        "count": {"type": "integer", "default": 3},
        "is_loud": {"type": "boolean", "default": False},
        "model": {"type": "string", "enum": ["small", "large"]},
    },
    "required": ["model"],
}


def test_what_is_not_given_has_its_default() -> None:
    assert with_defaults(SCHEMA, {"model": "small", "gain": 2}) == {
        "gain": 2, "count": 3, "is_loud": False, "model": "small",
    }  # fmt: skip
    assert with_defaults({}, {}) == {}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "the option model is not set"),
        ({"model": "huge"}, "the option model must be one of small, large, got 'huge'"),
        ({"model": "small", "gain": 3.0}, "the option gain must lie within 0.5 and 2, got 3.0"),
        ({"model": "small", "gain": "1"}, "the option gain must be of type number, got '1'"),
        ({"model": "small", "gain": float("nan")}, "the option gain must be of type number, got nan"),
        ({"model": "small", "gain": True}, "the option gain must be of type number, got True"),
        ({"model": "small", "count": 1.5}, "the option count must be of type integer, got 1.5"),
        ({"model": "small", "is_loud": 1}, "the option is_loud must be of type boolean, got 1"),
        ({"model": "small", "x": 1}, "there is no option x; the options are gain, count, is_loud, model"),
    ],
)
def test_an_option_that_cannot_be_is_refused_in_words(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        with_defaults(SCHEMA, given)


def test_options_are_read_as_they_stand_in_a_name() -> None:
    assert read_options(SCHEMA, "model=large, gain=1.5,count=4,is_loud=true") == {
        "gain": 1.5, "count": 4, "is_loud": True, "model": "large",
    }  # fmt: skip
    for words, sentence in {
        "model": "expected each option once, as name=value",
        "model=small,model=large": "expected each option once",
        "model=small,gain=much": "gain must be of type number, got 'much'",
        "model=small,is_loud=yes": "is_loud must be of type boolean, got 'yes'",
        "model=small,colour=red": "there is no option colour",
    }.items():
        with pytest.raises(ValueError, match=sentence):
            read_options(SCHEMA, words)


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        ({"properties": {}}, 'must be a schema of "type": "object"'),
        ({"type": "object", "oneOf": []}, "its options use oneOf"),
        ({"type": "object", "properties": {"x": {"type": "array"}}}, "its option x must be of type string"),
        ({"type": "object", "properties": {"x": {"type": "string", "pattern": "a"}}}, "x uses pattern"),
        (
            {"type": "object", "properties": {"x": {"type": "string", "default": 1}}},
            "x must be of type string",
        ),
        ({"type": "object", "required": ["x"]}, "its options require x"),
    ],
)
def test_a_schema_that_no_form_can_show_is_refused_rather_than_ignored(
    schema: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_schema(schema)
    check_schema(SCHEMA)
    check_schema({})

"""Options of a reward: a small part of JSON Schema that a form can be drawn from, and the check against it.

A schema is an object with `properties`; each is a string, integer, number or boolean, with `title`,
`description`, `default`, `enum`, `minimum`, `maximum`, and `required` names those that must be given
(json-schema.org, draft 2020-12). Anything else is refused rather than ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,),
}  # fmt: skip
_WORDS: Final = {"$schema", "title", "description", "type", "properties", "required", "additionalProperties"}
_FIELD_WORDS: Final = {"type", "title", "description", "default", "enum", "minimum", "maximum"}


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raises ValueError with a sentence where a schema has what a form cannot show; `{}` has no options."""
    unknown = sorted(set(schema) - _WORDS)
    if unknown:
        raise ValueError(f"its options use {unknown[0]}, which is not understood")
    if schema and schema.get("type") != "object":
        raise ValueError('its options must be a schema of "type": "object"')
    fields = schema.get("properties", {})
    for name, field in fields.items():
        unknown = sorted(set(field) - _FIELD_WORDS)
        if unknown:
            raise ValueError(f"its option {name} uses {unknown[0]}, which is not understood")
        if field.get("type") not in _TYPES:
            raise ValueError(
                f"its option {name} must be of type {', '.join(_TYPES)}, got {field.get('type')!r}"
            )
        if "default" in field:
            _check(name, field, field["default"])
    missing = sorted(set(schema.get("required", ())) - set(fields))
    if missing:
        raise ValueError(f"its options require {missing[0]}, which is none of them")


def with_defaults(schema: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The given options, and the defaults of the others.

    Raises:
        ValueError: An option is unknown, missing or outside of what the schema allows.
    """
    fields = schema.get("properties", {})
    unknown = sorted(set(given) - set(fields))
    if unknown:
        known = f"the options are {', '.join(fields)}" if fields else "there are no options"
        raise ValueError(f"there is no option {unknown[0]}; {known}")
    chosen = {name: field["default"] for name, field in fields.items() if "default" in field} | dict(given)
    missing = [name for name in schema.get("required", ()) if name not in chosen]
    if missing:
        raise ValueError(f"the option {missing[0]} is not set")
    for name, value in chosen.items():
        _check(name, fields[name], value)
    return chosen


def read_options(schema: Mapping[str, Any], words: str) -> dict[str, Any]:
    """Options as they stand behind the colon of a reward's name: "gain=2,model=small".

    Raises:
        ValueError: They are not written so, or the schema does not allow them.
    """
    given: dict[str, Any] = {}
    for word in filter(None, words.split(",")):
        name, sign, value = (part.strip() for part in word.partition("="))
        if not (name and sign) or name in given:
            raise ValueError(f'expected each option once, as name=value, got "{words}"')
        given[name] = _read(schema.get("properties", {}).get(name, {}).get("type"), value)
    return with_defaults(schema, given)


def _read(kind: str | None, value: str) -> object:
    """The value of a word; the word itself where it is none of this type, for the check to refuse."""
    try:
        match kind:
            case "integer":
                return int(value)
            case "number":
                return float(value)
            case "boolean":
                return {"true": True, "false": False}.get(value.lower(), value)
            case _:
                return value
    except ValueError:
        return value


def _check(name: str, field: Mapping[str, Any], value: object) -> None:
    kind = field["type"]
    is_right = isinstance(value, _TYPES[kind]) and isinstance(value, bool) == (kind == "boolean")
    if not is_right or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"the option {name} must be of type {kind}, got {value!r}")
    if "enum" in field and value not in field["enum"]:
        raise ValueError(
            f"the option {name} must be one of {', '.join(map(str, field['enum']))}, got {value!r}"
        )
    low, high = field.get("minimum", -math.inf), field.get("maximum", math.inf)
    if isinstance(value, int | float) and not low <= value <= high:
        raise ValueError(f"the option {name} must lie within {low:g} and {high:g}, got {value!r}")

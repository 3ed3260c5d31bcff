"""A run's settings as a file: YAML, or JSON, in; complete YAML out. Pure: text in, settings out. No torch.

YAML is read as its 1.2 core schema, so that `1e-4` is a number and `no` is a word; a key that stands twice,
an alias and a tag are refused, and an error names the line. What was written is read back as the same.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final, get_args

import yaml
from pydantic import BaseModel, ValidationError

from flowgrpo.config import RunConfig

MADE_WITH: Final = "made_with"
"""The part of a file that says how the run was made; the settings are all the rest."""
MAX_DEPTH: Final = 40
"""Levels of a file; settings have four."""
_LAST: Final = ("prompts", "held_out_prompts")
"""Long, so they are written after what a reader looks for."""
_CORE: Final[tuple[tuple[str, re.Pattern[str]], ...]] = (
    ("null", re.compile(r"null|Null|NULL|~|")),
    ("bool", re.compile(r"true|True|TRUE|false|False|FALSE")),
    ("int", re.compile(r"[-+]?[0-9]+")),
    ("float", re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")),
    ("special", re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")),
)
_TAG = "tag:yaml.org,2002:"
_PLAIN = tuple(_TAG + name for name in ("null", "bool", "int", "float", "str", "timestamp", "merge", "value"))
_Path = tuple[str | int, ...]


@dataclass(frozen=True)
class ConfigFile:
    """What a file says.

    Attributes:
        made_with: how the run was made, where the file says it: unchecked, as YAML or JSON has it.
    """

    config: RunConfig
    made_with: Mapping[str, Any] = field(default_factory=dict)


def parse(text: str, name: str) -> ConfigFile:
    """Reads YAML, or JSON, which begins with a brace.

    Args:
        name: of the file, for sentences.

    Raises:
        ValueError: a sentence with the line and the setting, where it is no run.
    """
    lines: dict[_Path, int] = {}
    try:
        told = _read(text.removeprefix("\ufeff"), lines)
    except _UnreadableError as error:
        raise ValueError(f"{name} is not a run: {error}") from error
    if not isinstance(told, dict):
        raise ValueError(
            f"{name} is not a run: expected settings, one a line, such as `num_updates: 60`, got "
            f"{'nothing' if told is None else type(told).__name__}"
        )
    made_with = told.pop(MADE_WITH, None)
    try:
        config = RunConfig.model_validate(told)
    except ValidationError as error:
        said = "; ".join(_sentence(dict(one), lines) for one in error.errors()[:3])
        raise ValueError(f"{name} is not a run: {said}") from error
    return ConfigFile(config, made_with if isinstance(made_with, dict) else {})


def written(config: RunConfig, made_with: Mapping[str, Any], head: str = "") -> str:
    """Every setting, those at their defaults too, as YAML that `parse` reads back as the same.

    Args:
        made_with: JSON's types only.
        head: lines that become comments at the top.
    """
    settings = config.model_dump(mode="json")
    told = {MADE_WITH: dict(made_with)} if made_with else {}
    told |= {key: value for key, value in settings.items() if key not in _LAST}
    told |= {key: settings[key] for key in _LAST}
    plain = "".join(char if char.isprintable() or char == "\n" else " " for char in head)
    comments = "".join(f"# {line}\n" for line in plain.splitlines())
    text: str = yaml.serialize(_node(told), Dumper=_DUMPER, allow_unicode=True, width=110)
    return comments + text


# Reading


class _UnreadableError(Exception):
    """Why a text is neither; the sentence names the line."""


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_OLD: Any = yaml.resolver.Resolver()


def _read(text: str, lines: dict[_Path, int]) -> Any:
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text, object_pairs_hook=_once)
        except json.JSONDecodeError as error:
            return _read_yaml(text, lines, f"line {error.lineno} is no JSON ({error.msg})")
        except RecursionError as error:
            raise _UnreadableError("it is nested too deep") from error
        except ValueError as error:  # a number of thousands of digits
            raise _UnreadableError(_first_line(error)) from error
    return _read_yaml(text, lines)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    twice = next((key for key in keys if keys.count(key) > 1), None) if len(set(keys)) < len(keys) else None
    if twice is not None:
        raise _UnreadableError(f"{twice} stands there twice: keep one of them")
    return dict(pairs)


def _read_yaml(text: str, lines: dict[_Path, int], instead: str = "") -> Any:
    """`instead` is what is said where it is no YAML either."""
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        where = f"line {at.line + 1}" if at else "it"
        raise _UnreadableError(instead or f"{where} is no YAML ({error.problem or error.context})") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise _UnreadableError(instead or f"it is no YAML ({_first_line(error)})") from error
    return None if node is None else _Walk(lines).value(node, ())


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:100]


class _Walk:
    """From YAML's nodes to values, each with its line."""

    def __init__(self, lines: dict[_Path, int]) -> None:
        self.lines = lines
        self._seen: set[int] = set()

    def value(self, node: Any, path: _Path) -> Any:
        line = node.start_mark.line + 1
        self.lines[path] = line
        if len(path) > MAX_DEPTH:
            raise _UnreadableError(f"line {line} is nested too deep")
        if id(node) in self._seen:
            raise _UnreadableError(f"line {line} is used again by an alias (*): write it out in both places")
        self._seen.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node, line)
        if node.tag not in (_TAG + "map", _TAG + "seq"):
            raise _UnreadableError(f"line {line} has a tag ({node.tag}): leave it out")
        if isinstance(node, yaml.SequenceNode):
            return [self.value(one, (*path, index)) for index, one in enumerate(node.value)]
        return dict(self._pairs(node, path))

    def _pairs(self, node: Any, path: _Path) -> Iterator[tuple[str, Any]]:
        found: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise _UnreadableError(f"line {line} has a key that is no word")
            if key.value == "<<":
                raise _UnreadableError(f"line {line} merges (<<): write the settings out")
            name = str(key.value)
            if name in found:
                raise _UnreadableError(
                    f"line {line}: {name} stands there twice, first in line {found[name]}: keep one of them"
                )
            found[name] = line
            yield name, self.value(value, (*path, name))
            self.lines[*path, name] = line


def _scalar(node: Any, line: int) -> Any:
    if node.tag not in (*_PLAIN, "!"):
        raise _UnreadableError(f"line {line} has a tag ({node.tag}): leave it out")
    return node.value if node.style else _plain(node.value)


def _plain(text: str) -> Any:
    """A word without quotes, by the core schema of YAML 1.2."""
    kind = _kind(text)
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int" and len(text) < 400:  # Python refuses to read thousands of digits
        return int(text)
    if kind in ("float", "special", "int"):
        return float(text.replace(".inf", "inf").replace(".nan", "nan") if kind == "special" else text)
    return text


def _kind(text: str) -> str:
    folded = text.lower() if text[-3:].lower() in ("inf", "nan") else text
    return next((kind for kind, pattern in _CORE if pattern.fullmatch(folded)), "str")


# Sentences


def _sentence(error: Mapping[str, Any], lines: Mapping[_Path, int]) -> str:
    """Where a setting is wrong, what was expected, and what stands there."""
    *section, name = [str(part) for part in error["loc"]] or ["the run"]
    where, at = ".".join([*section, name]), _line(error["loc"], lines)
    if error["type"] == "extra_forbidden":
        near = get_close_matches(name, _names(RunConfig), n=1)
        return f"{at}there is no setting {where}" + (f", did you mean {near[0]}?" if near else "")
    given = f", got {error['input']!r}" if isinstance(error["input"], int | float | str) else ""
    quotes = ""
    if error["type"] == "string_type" and isinstance(error["input"], int | float):
        quotes = " (a text that looks like a number stands in quotes)"
    return f"{at}{where}: {error['msg'].removeprefix('Value error, ')}{given}{quotes}"


def _line(loc: _Path, lines: Mapping[_Path, int]) -> str:
    """Of the innermost part that the file has; a union's choice stands in `loc` and in no file."""
    path: _Path = ()
    for part in loc:
        if (*path, part) in lines:
            path = (*path, part)
    return f"line {lines[path]}: " if path else ""


def _names(model: type[BaseModel]) -> set[str]:
    """Of all settings, those of sections included."""
    names = set(model.model_fields)
    for known in model.model_fields.values():
        for part in (known.annotation, *get_args(known.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                names |= _names(part)
    return names


# Writing


def _node(value: Any) -> Any:
    """The node of a value; a word that any reader could take for something else stands in quotes."""
    if isinstance(value, Mapping):
        pairs = [(_node(str(key)), _node(one)) for key, one in value.items()]
        return yaml.MappingNode(_TAG + "map", pairs, flow_style=not pairs)
    if isinstance(value, list | tuple):
        return yaml.SequenceNode(_TAG + "seq", [_node(one) for one in value], flow_style=not value)
    if value is None:
        return yaml.ScalarNode(_TAG + "null", "null")
    if isinstance(value, bool):
        return yaml.ScalarNode(_TAG + "bool", str(value).lower())
    if isinstance(value, int):
        return yaml.ScalarNode(_TAG + "int", str(value))
    if isinstance(value, float):
        return yaml.ScalarNode(_TAG + "float", _number(value))
    value = str(value)  # the emitter takes no subclass, which the version of torch is
    return yaml.ScalarNode(_TAG + "str", value, style='"' if _is_ambiguous(value) else None)


def _number(value: float) -> str:
    """As every reader takes it for a number: YAML 1.1 wants the point in 1.0e-05."""
    if not math.isfinite(value):
        raise ValueError(f"a setting is {value}: expected a finite number")
    mantissa, e, exponent = repr(value).partition("e")
    return f"{mantissa}.0{e}{exponent}" if e and "." not in mantissa else mantissa + e + exponent


def _is_ambiguous(text: str) -> bool:
    by_yaml_1_1 = _OLD.resolve(yaml.ScalarNode, text, (True, False))
    return by_yaml_1_1 != _TAG + "str" or _kind(text) != "str" or not text.isprintable()

"""The list that ends docs/algorithm.md: each entry names a line of the code and a test; both are there."""

from __future__ import annotations

import ast
import re

import pytest

from tests.repository import tree

PAGE = tree.ROOT / "docs" / "algorithm.md"
HEADING = "Implementation details and deviations"
ENTRY = re.compile(r"^(\d+)\. (.*?)(?=^\d+\. |\Z)", re.MULTILINE | re.DOTALL)
PARTS = re.compile(r"\*\*[^*]+\*\*.* Line: (?P<line>`.+`)\. Test: (?P<test>`.+`)\.")
PLACE = re.compile(r"`([\w/]+\.py)::([\w.]+)`, `([^`]+)`")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def entries() -> dict[int, str]:
    """Number to what stands there, in one line."""
    last = PAGE.read_text(encoding="utf-8").rpartition(f"\n## {HEADING}\n")[2]
    return {int(number): " ".join(text.split()) for number, text in ENTRY.findall(last)}


def source_of(file: str, name: str) -> str:
    """The code of a function, or of a method as Class.method, in one line; nothing where there is none."""
    path = tree.ROOT / file
    if not path.is_file():
        return ""
    found: list[ast.AST] = [tree.parsed(path)]
    for part in name.split("."):
        inside = [child for node in found for child in ast.iter_child_nodes(node)]
        found = [
            child
            for child in inside
            if isinstance(child, ast.FunctionDef | ast.ClassDef) and child.name == part
        ]
    text = path.read_text(encoding="utf-8")
    return " ".join((ast.get_source_segment(text, found[0]) or "").split()) if found else ""


def missing(entry: str) -> list[str]:
    """What an entry names that is not there; the entry itself where it lacks a part."""
    parts = PARTS.fullmatch(entry)
    if parts is None:
        return [entry]
    places, tests = PLACE.findall(parts["line"]), TEST.findall(parts["test"])
    if parts["line"].count("`") != 4 * len(places) or parts["test"].count("`") != 2 * len(tests):
        return [entry]
    lines = [f"{file}::{name}: {code}" for file, name, code in places if code not in source_of(file, name)]
    return lines + [f"{file}::{name}" for file, name in tests if not source_of(file, name)]


def test_the_page_ends_with_the_list_and_its_numbers_follow_on_one_another() -> None:
    headings = re.findall(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[-1] == HEADING
    assert list(entries()) == list(range(1, len(entries()) + 1))
    assert len(entries()) > 30


@pytest.mark.parametrize("number", entries())
def test_an_entry_names_a_line_and_a_test_that_are_there(number: int) -> None:
    assert missing(entries()[number]) == []


REAL = (
    "**It is so.** For a reason. "
    "Line: `flowgrpo/objectives.py::clip_range`, `return clip_nats / num_elements`. "
    "Test: `tests/flowgrpo/test_objectives.py::test_the_clip_is_counted_in_nats_whatever_the_size`."
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("flowgrpo/objectives", "flowgrpo/objective"),
        ("::clip_range", "::clip_ranges"),
        ("clip_nats /", "clip_nats *"),
        ("whatever_the_size", "whatever"),
        ("tests/flowgrpo/test_objectives", "tests/flowgrpo/test_update"),
        (" Test: ", " See: "),
        ("::clip_range`, ", "::clip_range`, `flowgrpo/objectives.py::gone`, "),
    ],
)
def test_an_entry_that_names_what_is_not_there_is_found(old: str, new: str) -> None:
    assert missing(REAL) == []
    assert missing(REAL.replace(old, new)) != []

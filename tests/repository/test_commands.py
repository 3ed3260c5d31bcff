"""Commands, blocks of Python and tests that the pages name: each parses, compiles, exists."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from app import cli
from flowgrpo.runs import evaluate_command
from tests.repository import tree
from tests.repository.test_docs import quoted, text

COMMAND = re.compile(r"(?:^|[\s/])(?:python )?app\.py (?=[a-z-])(.*)")
INDENTED = re.compile(r"^ {4}(\S.*)$", re.MULTILINE)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
NAMED_TEST = re.compile(r"`(?:[\w/]+\.py::)?(test_\w+)`")
USAGE_ERROR: Any = typer.BadParameter.__base__
"""What a command line that is refused raises."""
GENERATED = tree.ROOT / "docs" / "api.md"


def commands(page: Path) -> list[list[str]]:
    """The words after `app.py` of each command that a page shows whole."""
    lines = [*quoted(page), *INDENTED.findall(text(page))]
    found = [match[1] for line in lines if (match := COMMAND.search(line))]
    return [shlex.split(line, comments=True) for line in found]


@cache
def front() -> Any:
    """The command above all."""
    return typer.main.get_command(cli)


@cache
def named(command: Any, name: str) -> Any:
    """The command of a name below another; None where there is none."""
    return command.get_command(None, name)


def parse(words: list[str]) -> None:
    """Reads a command line as the program would and runs nothing; raises what the program would show."""
    command = front()
    while words and hasattr(command, "get_command"):
        name, *words = words
        if name.startswith("-"):
            assert name in {option for one in command.params for option in one.opts}, name
            return
        below = named(command, name)
        assert below is not None, f"there is no command {name}"
        command = below
    if command.name == "evaluate" and words:
        evaluate_command._parser().parse_args(["--home", "data", *words])
    elif words and not hasattr(command, "get_command"):
        command.make_context(command.name, words)


@pytest.mark.parametrize("page", [page for page in tree.docs() if page != GENERATED], ids=tree.relative)
def test_every_command_that_a_page_shows_parses(page: Path) -> None:
    for words in commands(page):
        parse(words)


@pytest.mark.parametrize(
    "wrong", ["doctr", "doctor --reward-s", "run --dry-run", "limits --backups-kept", "user ad Ann"]
)
def test_a_command_that_the_program_refuses_does_not_parse(wrong: str) -> None:
    with pytest.raises((USAGE_ERROR, AssertionError, SystemExit)):
        parse(wrong.split())


def test_the_pages_show_commands_at_all() -> None:
    assert sum(len(commands(page)) for page in tree.docs()) > 40


@pytest.mark.parametrize("page", [page for page in tree.docs() if page != GENERATED], ids=tree.relative)
def test_every_block_of_python_on_a_page_compiles(page: Path) -> None:
    for block in PYTHON.findall(text(page)):
        compile(block, str(page), "exec")


def test_every_test_that_a_page_names_exists() -> None:
    there = {one.name for path in tree.under("tests", suffix=".py") for one in tree.functions(path)}
    there |= {path.stem for path in tree.under("tests", suffix=".py")}
    pages = [page for page in tree.docs() if page != GENERATED]  # which has an argument called test_id
    named = {(name, tree.relative(page)) for page in pages for name in NAMED_TEST.findall(text(page))}
    assert len(named) > 50
    assert sorted(one for one in named if one[0] not in there) == []

"""A case of the corpus: one bad thing from outside, the door that it comes to, and what is answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Door = Literal[
    "dataset", "adapter", "base", "prompts", "folder", "run", "form", "command"
]  # fmt: skip
"""dataset: POST /datasets. adapter: POST /adapters, then the engine's import. base: the Library's form, then
the engine's job. prompts: the Library's import. folder: the Library's datasets of this machine. run: a file
for `app.py run`. form: the Train page. command: words after `app.py`.
"""


@dataclass(frozen=True)
class Case:
    """One thing that somebody sends.

    Attributes:
        name: what it is.
        make: writes what is needed into an empty folder, and returns what the door is given.
        words: a part of the sentence that comes back, as a regular expression.
        is_taken: whether it is harmless once it is written anew, and so kept.
    """

    name: str
    door: Door
    make: Callable[[Path], Any]
    words: str = "."
    is_taken: bool = False


@dataclass(frozen=True)
class Answer:
    """What a door said, and whether it kept something."""

    words: str
    is_kept: bool = False
    detail: Mapping[str, Any] = field(default_factory=dict)


def given(value: Any) -> Callable[[Path], Any]:
    """A case that needs no files."""
    return lambda folder: value


def numbered(cases: Sequence[Case]) -> dict[str, Case]:
    """Cases by door and name; each name is used once."""
    named = {f"{case.door}: {case.name}": case for case in cases}
    assert len(named) == len(cases), "two cases of one name"
    return named

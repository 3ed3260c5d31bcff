"""What of a folder a build sees, by its .dockerignore, and COPY out of it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Rule:
    """One line of .dockerignore.

    Attributes:
        pattern: matches paths relative to the folder, and all below them.
        lets_in: whether the line began with an exclamation mark.
    """

    pattern: re.Pattern[str]
    lets_in: bool


def rules_of(text: str) -> tuple[Rule, ...]:
    """The rules, in their order; the last one that matches a path says what becomes of it."""
    lines = [line.strip() for line in text.splitlines()]
    kept = [line for line in lines if line and not line.startswith("#")]
    return tuple(Rule(_pattern(line.lstrip("!")), line.startswith("!")) for line in kept)


def is_seen(path: str, rules: Sequence[Rule]) -> bool:
    """Whether a build sees a file, by its path relative to the folder."""
    verdicts = [rule.lets_in for rule in rules if rule.pattern.fullmatch(path)]
    return verdicts[-1] if verdicts else True


def files_below(context: Path, source: str, rules: Sequence[Rule]) -> Iterator[Path]:
    """The files that COPY takes for a source, one file or all of a folder.

    Raises:
        ValueError: there is none, as a build would say.
    """
    top = context / source
    found = [top] if top.is_file() else [path for path in sorted(top.rglob("*")) if path.is_file()]
    seen = [path for path in found if is_seen(path.relative_to(context).as_posix(), rules)]
    if not seen:
        raise ValueError(f"COPY {source}: nothing of that name is there, or .dockerignore keeps it out")
    yield from seen


def copy(context: Path, sources: Sequence[str], target: Path, rules: Sequence[Rule]) -> None:
    """COPY from the folder: files into `target`, of folders what they hold; all becomes root's."""
    for source in sources:
        top = context / source
        base = top if top.is_dir() else top.parent
        for path in files_below(context, source, rules):
            goal = target / path.relative_to(base)
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, goal)
            os.chown(goal, 0, 0)


def _pattern(line: str) -> re.Pattern[str]:
    """A pattern of .dockerignore: `**` for any folders, `*` and `?` within one name, and sets."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", line.strip("/"))
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    said = "".join(words.get(part, part if part.startswith("[") else re.escape(part)) for part in parts)
    return re.compile(f"{said}(?:/.*)?")

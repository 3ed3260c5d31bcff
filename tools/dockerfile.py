"""Reads a Dockerfile: its stages, their steps, and what each of them says with its variables filled in.

It knows what ours is made of and refuses the rest, so that a replay leaves nothing out in silence.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

KNOWN: Final = frozenset(
    (
        *("ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "RUN"),
        *("STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
    )
)
_FLAG = re.compile(r"--([a-z-]+)(?:=(\S+))?\s+")
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::([-+])([^}]*))?\}|(\w+))")
_ALLOWED_FLAGS: Final = {"COPY": {"from"}, "HEALTHCHECK": {"interval", "timeout", "start-period", "retries"}}


@dataclass(frozen=True)
class Step:
    """One instruction, continued lines joined.

    Attributes:
        line: where it begins, from 1.
        flags: `--name=value` before the rest.
        text: the rest, variables not filled in.
    """

    line: int
    name: str
    flags: Mapping[str, str]
    text: str

    def command(self) -> list[str]:
        """What is executed: the list, or a shell that is given the text."""
        return self.listed() or ["/bin/sh", "-c", self.text]

    def listed(self) -> list[str]:
        """The words of the form that is a JSON list; empty where it is none."""
        if not self.text.startswith("["):
            return []
        words = json.loads(self.text)
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError(f"line {self.line}: expected a list of strings, got {self.text}")
        return words


@dataclass(frozen=True)
class Stage:
    """What one FROM begins.

    Attributes:
        base: an image, or the name of an earlier stage; variables filled in.
    """

    name: str
    base: str
    steps: tuple[Step, ...]


@dataclass
class Image:
    """What a container of a stage starts with."""

    env: dict[str, str] = field(default_factory=dict)
    user: str = "0"
    workdir: str = "/"
    entrypoint: list[str] = field(default_factory=list)
    cmd: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    stop_signal: str = "SIGTERM"

    def note(self, step: Step, values: Mapping[str, str]) -> None:
        """Takes over what a step says of the image; steps that change files are left to others.

        Args:
            values: of the variables that may stand in it.
        """
        text = expand(step.text, values)
        if step.name in ("ENV", "LABEL"):
            (self.env if step.name == "ENV" else self.labels).update(pairs(text, step.line))
        elif step.name in ("ENTRYPOINT", "CMD", "HEALTHCHECK"):
            self._note_command(step)
        elif step.name == "USER":
            self.user = text
        elif step.name == "WORKDIR":
            self.workdir = str(Path(self.workdir) / text)
        elif step.name == "EXPOSE":
            self.ports += [int(port) for port in text.split()]
        elif step.name == "VOLUME":
            self.volumes += step.listed()
        elif step.name == "STOPSIGNAL":
            self.stop_signal = text

    def _note_command(self, step: Step) -> None:
        if step.name == "ENTRYPOINT":
            self.entrypoint = step.command()
        elif step.name == "CMD":
            self.cmd = step.command()
        else:
            word, _, rest = step.text.partition(" ")
            if word != "CMD":
                raise ValueError(f"line {step.line}: expected HEALTHCHECK ... CMD, got {step.text}")
            self.healthcheck = Step(step.line, word, {}, rest.strip()).command()


def read(text: str, build_args: Mapping[str, str] | None = None) -> tuple[Stage, ...]:
    """The stages of a Dockerfile.

    Args:
        build_args: what takes the place of the defaults before the first FROM.

    Raises:
        ValueError: an instruction, flag or form that is not known here, with its line.
    """
    given, stages, known = dict(build_args or {}), list[Stage](), dict[str, str]()
    for step in _steps(text):
        if step.name == "FROM":
            base, _, name = expand(step.text, known).partition(" AS ")
            stages.append(Stage(name or str(len(stages)), base, ()))
        elif stages:
            last = stages[-1]
            stages[-1] = Stage(last.name, last.base, (*last.steps, step))
        elif step.name == "ARG":
            known |= argument(step, given)
        else:
            raise ValueError(f"line {step.line}: {step.name} stands before the first FROM")
    return tuple(stages)


def argument(step: Step, build_args: Mapping[str, str]) -> dict[str, str]:
    """Name and value of an ARG: the one that was given, else its default, else none."""
    name, sign, default = step.text.partition("=")
    if name in build_args:
        return {name: build_args[name]}
    return {name: shlex.split(default)[0] if default else ""} if sign else {}


def expand(text: str, values: Mapping[str, str]) -> str:
    """`$NAME`, `${NAME}`, `${NAME:-else}` and `${NAME:+then}` filled in; an unknown name is empty."""

    def value(found: re.Match[str]) -> str:
        name, sign, word = found[1] or found[4], found[2], found[3]
        known = values.get(name, "")
        if sign == "-":
            return known or str(word)
        return str(word) if sign == "+" and known else "" if sign == "+" else known

    return _VARIABLE.sub(value, text)


def pairs(text: str, line: int) -> dict[str, str]:
    """The `name=value` of ENV and LABEL. Raises ValueError where a word is none."""
    words = shlex.split(text)
    if bare := [word for word in words if "=" not in word]:
        raise ValueError(f"line {line}: expected name=value, got {bare[0]}")
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def _steps(text: str) -> list[Step]:
    steps, begun, first = list[Step](), "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("#") or (not begun and not line.strip()):
            continue
        first = first if begun else number
        begun += line.strip() + " " if not line.rstrip().endswith("\\") else line.strip()[:-1]
        if not line.rstrip().endswith("\\"):
            steps.append(_step(first, begun.strip()))
            begun = ""
    if begun:
        raise ValueError(f"line {first}: the last line is to be continued, and nothing follows")
    return steps


def _step(line: int, text: str) -> Step:
    name, _, rest = text.partition(" ")
    if name not in KNOWN:
        raise ValueError(f"line {line}: expected one of {', '.join(sorted(KNOWN))}, got {name}")
    rest, flags = rest.strip(), dict[str, str]()
    while flag := _FLAG.match(rest):
        if flag[1] not in _ALLOWED_FLAGS.get(name, set()):
            raise ValueError(f"line {line}: {name} --{flag[1]} is not known here")
        flags[flag[1]], rest = flag[2] or "", rest[flag.end() :]
    if name == "RUN" and "<<" in rest:
        raise ValueError(f"line {line}: text behind << is not known here")
    return Step(line, name, flags, rest)

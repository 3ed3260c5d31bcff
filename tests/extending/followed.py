"""A page of docs/extending/, followed word for word in a copy of the repository.

A line that ends with a colon and quotes a path, and the block after it, are a step: a `diff` changes the
file, an empty line parting its changes; any other language is the whole of a new one. A block without a
language holds commands.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.repository import tree

PAGES = tree.ROOT / "docs" / "extending"
_STEP = re.compile(r"^[^\n]*?`([\w./-]+)`[^\n]*:\n\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LARGE = 100_000
"""Bytes from which on a file is linked instead of copied: weights, pictures."""


class Step(NamedTuple):
    """One file that a page has written, or changed."""

    path: str
    language: str
    block: str


def steps(page: Path) -> list[Step]:
    """What a page has done to files, in its order."""
    return [Step(*found) for found in _STEP.findall(page.read_text(encoding="utf-8"))]


def made(page: Path) -> set[str]:
    """Paths of the files that a page has written anew."""
    return {step.path for step in steps(page) if step.language != "diff"}


def commands(page: Path) -> list[list[str]]:
    """The words of each command that a page has run."""
    blocks = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [shlex.split(line) for language, block in blocks if not language for line in block.splitlines()]


def followed(page: Path, clone: Path) -> Path:
    """Copies the repository to `clone` and does there what the page says to files."""
    for name in ("app.py", "pyproject.toml", "flowgrpo", "storage", "ui", "tests"):
        source = tree.ROOT / name
        if source.is_dir():
            skipped = shutil.ignore_patterns("__pycache__", ".*")
            shutil.copytree(source, clone / name, ignore=skipped, copy_function=_copied)
        else:
            shutil.copy(source, clone / name)
    (clone / ".venv").symlink_to(sys.prefix)
    for step in steps(page):
        _do(step, clone / step.path)
    return clone


def _copied(source: str, target: str) -> None:
    if os.path.getsize(source) > _LARGE:
        os.symlink(source, target)
    else:
        shutil.copy(source, target)


def _do(step: Step, path: Path) -> None:
    if step.language != "diff":
        assert not path.exists(), f"{step.path} is there already"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(step.block, encoding="utf-8")
        return
    text = path.read_text(encoding="utf-8")
    for change in step.block.split("\n\n"):
        lines = change.splitlines()
        old, new = ("\n".join(one[1:] for one in lines if one[0] != sign) + "\n" for sign in "+-")
        assert text.count(old) == 1, f"{step.path} holds {text.count(old)} times\n{old}"
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def ran(clone: Path, *words: str) -> str:
    """Runs a command of a page in its clone; what it said. One that fails, fails the test with its words."""
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "FLOWGRPO_HOME": str(clone / "data")}
    done = subprocess.run(words, cwd=clone, env=offline, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def tidy(clone: Path, page: Path) -> str:
    """What the formatter and the linter think of the files that a page touched."""
    touched = [*dict.fromkeys(step.path for step in steps(page) if step.path.endswith(".py"))]
    ruff = sys.executable, "-m", "ruff"
    ran(clone, *ruff, "format", "--check", "--no-cache", *touched)
    return ran(clone, *ruff, "check", "--no-cache", *touched)

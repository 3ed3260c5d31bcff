"""docs/extending/reward.md, word for word: its files are written, its commands run, its assertions hold."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repository import tree

PAGE = (tree.ROOT / "docs" / "extending" / "reward.md").read_text(encoding="utf-8")
FILE = re.compile(r"^`(warmth/\S+)` .*?:\n\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\.venv/bin/python .*$", re.MULTILINE)
EXAMPLE = tree.ROOT / "tests" / "plugin_example"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A place that looks like a clone with its environment; packages go to a folder of its own."""
    for name in ("app.py", "flowgrpo", "storage", "ui"):
        (tmp_path / name).symlink_to(tree.ROOT / name)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    for name, content in FILE.findall(PAGE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    return tmp_path


def test_a_reward_made_by_following_the_page_is_tried_by_the_doctor_and_scores(clone: Path) -> None:
    packages = str(clone / "packages")
    thrown_away = {"PIP_TARGET": packages, "PIP_NO_INDEX": "1", "PYTHONPATH": packages}
    settings = {**os.environ, **thrown_away, "FLOWGRPO_HOME": str(clone / "data"), "HF_HUB_OFFLINE": "1"}

    def said(*words: str) -> str:
        done = subprocess.run(words, cwd=clone, env=settings, capture_output=True, text=True, timeout=400)
        return done.stdout + done.stderr

    install, doctor = COMMAND.findall(PAGE)
    said(*install.split())
    assert re.search(r"^ok +warmth ", told := said(*doctor.split()), re.MULTILINE), told
    check = PAGE.rpartition("```python\n")[2].partition("```")[0]
    score = f"{check}\nprint('values', [round(value, 3) for value in result.values.tolist()])"
    values = said(".venv/bin/python", "-c", score)
    assert re.search(r"values \[(-?[\d.]+, ){7}-?[\d.]+\]", values), values


def test_the_example_package_is_that_of_the_page() -> None:
    shown = {name.removeprefix("warmth/"): content for name, content in FILE.findall(PAGE)}
    assert set(shown) == {"pyproject.toml", "warmth_reward/__init__.py"}
    assert {name: (EXAMPLE / name).read_text(encoding="utf-8") for name in shown} == shown

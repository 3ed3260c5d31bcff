"""docs/extending/base.md, word for word: its files are written, its tests run and hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.extending.followed import PAGES, commands, followed, ran, tidy

PAGE = PAGES / "base.md"


@pytest.mark.slow
def test_a_family_added_by_following_the_page_draws_as_its_pipeline_does_and_learns(tmp_path: Path) -> None:
    clone = followed(PAGE, tmp_path)
    assert "All checks passed" in tidy(clone, PAGE)
    (command,) = commands(PAGE)
    told = ran(clone, *command)
    assert re.search(r"^5 passed", told, re.MULTILINE), told

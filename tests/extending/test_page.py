"""docs/extending/page.md, word for word: its files are written, its tests run and hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.extending.followed import PAGES, commands, followed, ran, tidy

PAGE = PAGES / "page.md"


@pytest.mark.slow
def test_a_page_added_by_following_the_page_answers_whom_it_is_for_in_both_languages(tmp_path: Path) -> None:
    clone = followed(PAGE, tmp_path)
    assert "All checks passed" in tidy(clone, PAGE)
    (command,) = commands(PAGE)
    told = ran(clone, *command)
    passed = re.search(r"^(\d+) passed", told, re.MULTILINE)
    assert passed is not None, told
    assert int(passed[1]) > 30, "its own, and those of rights and languages that all pages share"

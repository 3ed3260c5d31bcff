"""docs/extending/algorithm.md, word for word: its files are written, its tests run and hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.extending.followed import PAGES, commands, followed, ran, tidy

PAGE = PAGES / "algorithm.md"


@pytest.mark.slow
def test_an_algorithm_made_by_following_the_page_passes_its_tests_and_those_of_all_others(
    tmp_path: Path,
) -> None:
    clone = followed(PAGE, tmp_path)
    assert "All checks passed" in tidy(clone, PAGE)
    (command,) = commands(PAGE)
    told = ran(clone, *command)
    passed = re.search(r"^(\d+) passed", told, re.MULTILINE)
    assert passed is not None, told
    assert int(passed[1]) > 15, "its own, and one of each property that all share"

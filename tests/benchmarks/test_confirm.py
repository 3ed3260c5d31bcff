"""What confirms a claim is what no recipe was chosen by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.learning.confirm import confirm
from benchmarks.learning.judging import Judging
from flowgrpo.runs.worker import WEIGHTS


def test_the_fresh_prompts_are_those_after_the_tables_own(tmp_path: Path) -> None:
    judging = Judging(WEIGHTS, tmp_path, num_prompts=4, num_references=8)
    fresh = replace(judging, first_prompt=judging.num_prompts)
    assert judging.prompts + fresh.prompts == replace(judging, num_prompts=8).prompts
    assert len(fresh.prompts) == 4


def test_a_method_that_was_not_raced_is_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "kept" / "ours-0").mkdir(parents=True)
    judging = Judging(WEIGHTS, tmp_path, num_prompts=4, num_references=8)
    with pytest.raises(LookupError, match="keeps no weights of ddpo, awm: race first"):
        confirm(judging, tmp_path, ["ours", "ddpo", "awm"])

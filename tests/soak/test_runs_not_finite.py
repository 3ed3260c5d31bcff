"""Ten kinds of numbers that are not finite, twenty seeds each: none of them in a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.test_not_finite import KINDS, try_fault

SEEDS = int(os.environ.get("SOAK_SEEDS", "20"))


@pytest.mark.timeout(3600)
def test_no_fault_of_any_kind_puts_a_number_that_is_not_finite_into_a_file(
    pipeline: Path, tmp_path: Path, figure: Callable[[str, str], None]
) -> None:
    found = sum(
        try_fault(pipeline, tmp_path / f"{number}-{seed}", kind, seed)
        for number, kind in enumerate(KINDS)
        for seed in range(SEEDS)
    )
    figure(
        "tensors that are not finite in saved files",
        f"{found} ({len(KINDS)} kinds of faults x {SEEDS} seeds)",
    )
    assert found == 0

"""A hundred damaged checkpoints: each is found, the one before is used, the person is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from storage.engine import Database
from storage.models import Checkpoint
from tests.faults.test_damaged_checkpoints import try_each


@pytest.mark.timeout(900)
def test_a_hundred_damaged_checkpoints_are_all_found(
    db: Database, tiny: Checkpoint, figure: Callable[[str, str], None]
) -> None:
    tried, found = try_each(db, tiny, times=5)
    figure("a damaged checkpoint is found, the one before is used, a warning says so", f"{found} of {tried}")
    assert tried >= 100
    assert found == tried

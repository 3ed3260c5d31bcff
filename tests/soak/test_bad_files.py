"""The whole corpus of bad files, again and again through every door of one process, which must not grow."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import app
from storage import checkpoints
from storage.engine import open_database
from tests.faults.corpus import weights
from tests.faults.doors import Doors, Growth
from tests.faults.test_bad_files import CASES, CRASHED, GROWTH, SECONDS

ROUNDS = 5


@pytest.mark.filterwarnings("ignore:Truncated File Read:UserWarning")
@pytest.mark.timeout(1800)
def test_bad_files_neither_crash_nor_hang_nor_fill_the_memory(
    pipeline: Path, tmp_path: Path, figure: Callable[[str, str], None]
) -> None:
    app._open(tmp_path / "home").close()
    db = open_database(tmp_path / "home")
    doors = Doors(db, checkpoints.register_base(db, name="tiny", source=str(pipeline), family="sdxl"))
    assert doors.try_one("adapter", ("good.safetensors", weights.GOOD)).is_kept
    before, worst, peak, crashed, kept = psutil.Process().memory_info().rss, 0.0, 0, 0, 0
    for number in range(ROUNDS):
        for case in CASES.values():
            given, growth, begun = case.make(fresh(tmp_path / f"{number}")), Growth(), time.monotonic()
            with growth.watched():
                answer = doors.try_one(case.door, given)
            worst, peak = max(worst, time.monotonic() - begun), max(peak, growth.peak)
            crashed += any(one in answer.words for one in CRASHED)
            kept += answer.is_kept and not case.is_taken
    grown = psutil.Process().memory_info().rss - before
    doors.close()
    db.close()
    figure(
        "bad files are refused in a sentence",
        f"{len(CASES)} files, {ROUNDS} times: {crashed} crashes, worst {worst:.1f} s, {kept} stored; "
        f"memory grew by {grown / 2**20:.0f} MB, by {peak / 2**20:.0f} MB at most in one",
    )
    assert (crashed, kept) == (0, 0)
    assert worst <= SECONDS
    assert max(grown, peak) <= GROWTH


def fresh(folder: Path) -> Path:
    """An empty folder of its own."""
    folder.mkdir(exist_ok=True)
    made = folder / str(len(list(folder.iterdir())))
    made.mkdir()
    return made

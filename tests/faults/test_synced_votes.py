"""Before a vote is acknowledged, the kernel was told to put it on the disk: seen from outside, by strace."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import checkpoints, engine
from storage.engine import open_database
from tests.storage.records import finished_group

VOTES = 20
ROOT = Path(engine.__file__).parents[1]
VOTER = """
import os, sys
from pathlib import Path
from storage import engine
from storage.engine import open_database
from storage.ratings import RatingInput, rate, submit

home, journal, group, image, count = sys.argv[1:]
if journal == "TRUNCATE":
    engine.has_wal_fix = lambda version: False
db = open_database(Path(home))
assert db.driver.journal_mode == journal
for number in range(int(count)):
    rating = RatingInput(f"key-{number}", "local", group, "stars", image, number % 5 + 1)
    os.write(1, f"asked {number}\\n".encode())
    rate(db, rating) if number % 2 else submit(db, "local", group, [rating])
    os.write(1, f"saved {number}\\n".encode())
"""
SAID = re.compile(r'write\(1, "(asked|saved) (\d+)')
SYNC = re.compile(r"\b(?:fsync|fdatasync)\(\d+<([^>]*)>\)\s*=\s*0")


@pytest.mark.parametrize("journal", ["WAL", "TRUNCATE"])
def test_every_acknowledged_vote_was_synced_to_the_database_first(
    tmp_path: Path, journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert min(syncs_per_vote(tmp_path, journal, VOTES, monkeypatch)) >= 1


def syncs_per_vote(folder: Path, journal: str, votes: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often the files of the database were synced between each vote and its acknowledgement."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    if journal == "TRUNCATE":
        monkeypatch.setattr(engine, "has_wal_fix", lambda version: False)
    db = open_database(folder / "home")
    group = finished_group(db, checkpoints.register_base(db, name="starter", source="x", family="sdxl"))
    db.close()
    trace = folder / "trace.txt"
    watch = ["strace", "-f", "-y", "-qq", "-e", "trace=fsync,fdatasync,write", "-o", str(trace)]
    vote = [sys.executable, "-c", VOTER, str(db.home), journal, group.group.id, group.images[0].image.id]
    done = subprocess.run([*watch, *vote, str(votes)], cwd=ROOT, capture_output=True, text=True, check=False)
    if "Operation not permitted" in done.stderr:
        pytest.skip("may not trace a process here")
    assert done.returncode == 0, done.stderr
    return list(_counted(trace.read_text(), votes))


def _counted(trace: str, votes: int) -> Iterator[int]:
    syncs: dict[int, int] = {}
    waiting: int | None = None
    for line in trace.splitlines():
        if said := SAID.search(_plain(line)):
            waiting = int(said[2]) if said[1] == "asked" else None
            syncs.setdefault(int(said[2]), 0)
        elif waiting is not None and (synced := SYNC.search(line)) and "app.db" in synced[1]:
            syncs[waiting] += 1
    assert sorted(syncs) == list(range(votes))
    yield from syncs.values()


def _plain(line: str) -> str:
    """A write to descriptor 1 without the name of its file."""
    return re.sub(r"write\(1<[^>]*>", "write(1", line)

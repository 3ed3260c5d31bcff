"""Writers are killed at random moments; every rating that was acknowledged is there, once.

A writer prints a key only after COMMIT returned, as the page says "saved" only then. This proves nothing
about a loss of power: for that the settings of every connection are pinned in tests/storage/test_engine.py.
"""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select as rows
from sqlalchemy import text

from storage import checkpoints, engine
from storage.engine import Database, open_database
from storage.models import RatingEvent
from tests.storage.records import finished_group

WRITERS = 4
COMMIT_SECONDS = 0.02
"""About one transaction, so that the kill falls anywhere in it."""

LAUNCHER = """
import itertools, os, select, sys
from pathlib import Path
from storage import engine
from storage.engine import open_database
from storage.errors import NotSavedError
from storage.ratings import RatingInput, rate, submit

home, journal, *targets = sys.argv[1:]
if journal == "TRUNCATE":
    engine.has_wal_fix = lambda version: False

def write(group_id, image_id, numbers):
    for number in numbers:
        key = f"{os.getpid()}-{number}"
        rating = RatingInput(key, "local", group_id, "stars", image_id, number % 5 + 1)
        while not keep(rating, number % 4 == 0):
            pass
        os.write(1, f"{key}\\n".encode())
        select.select([], [], [], 0.005)  # people pause too

def keep(rating, is_whole_group):
    try:
        submit(db, "local", rating.group_id, [rating]) if is_whole_group else rate(db, rating)
    except NotSavedError:
        return False  # the page says so and sends the same key again
    return True

# Each life is a fork of this process, which has imported and compiled everything once and holds nothing open.
db = open_database(Path(home))
write(*targets[0].split("/"), range(2))
db.close()
for target in itertools.cycle(targets):
    if not sys.stdin.readline():
        break
    child = os.fork()
    if child == 0:
        write(*target.split("/"), itertools.count())
    os.write(2, f"{child}\\n".encode())
    os.waitpid(child, 0)
"""


@contextmanager
def launcher(home: Path, journal: str, targets: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that starts one writer per line on its stdin and says the writer's pid on its stderr."""
    command = [sys.executable, "-c", LAUNCHER, str(home), journal, *targets]
    root, pipe = Path(engine.__file__).parents[1], subprocess.PIPE
    with subprocess.Popen(command, cwd=root, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        yield process


def one_life_each(launchers: list[subprocess.Popen[bytes]], chance: random.Random) -> list[str]:
    """All writers start together; each is killed some commits later, in the middle of whatever it does.

    Returns the keys that were read on the way; others wait in the pipes.
    """
    writers = []
    for process in launchers:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
        writers.append(int(process.stderr.readline()))
    keys: list[str] = []
    for process, writer in chance.sample(list(zip(launchers, writers, strict=True)), len(writers)):
        assert process.stdout is not None
        num_commits = chance.choice((0, 0, 1, 2))
        while sum(key.startswith(f"{writer}-") for key in keys) < num_commits:
            keys.append(process.stdout.readline().decode().strip())
        select.select([], [], [], chance.uniform(0, COMMIT_SECONDS))
        os.kill(writer, signal.SIGKILL)
    return keys


def make_targets(db: Database, number: int) -> list[str]:
    base = checkpoints.register_base(db, name="starter", source="x", family="sdxl")
    views = [finished_group(db, base, num_images=1) for _ in range(number)]
    return [f"{view.group.id}/{view.images[0].image.id}" for view in views]


@pytest.mark.slow
@pytest.mark.timeout(600)  # some 20 s on two free cores; with both taken by a training, minutes
@pytest.mark.parametrize(("journal", "num_kills"), [("WAL", 200), ("TRUNCATE", 20)])
def test_every_acknowledged_rating_survives_random_kills(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    journal: str,
    num_kills: int,
) -> None:
    if journal == "TRUNCATE":
        monkeypatch.setattr(engine, "has_wal_fix", lambda version: False)
    db = open_database(tmp_path / "home")
    assert db.driver.journal_mode == journal
    targets = make_targets(db, 10)
    chance = random.Random(0)
    acknowledged: list[str] = []
    with ExitStack() as stack:
        launchers = [stack.enter_context(launcher(db.home, journal, targets)) for _ in range(WRITERS)]
        for _ in range(num_kills // WRITERS):
            acknowledged += one_life_each(launchers, chance)
        for process in launchers:
            acknowledged += process.communicate()[0].decode().split()
    with db.read() as session:
        kept = list(session.scalars(rows(RatingEvent.client_key).order_by(RatingEvent.seq)))
        assert session.scalar(text("PRAGMA integrity_check")) == "ok"
        assert session.execute(text("PRAGMA foreign_key_check")).all() == []
        assert session.scalars(rows(RatingEvent.seq).order_by(RatingEvent.seq)).all() == list(
            range(1, len(kept) + 1)
        )
    db.close()
    assert len(acknowledged) > num_kills  # else the writers were killed before they could write
    assert len(set(kept)) == len(kept)
    assert set(acknowledged) <= set(kept)
    assert len(kept) - len(acknowledged) <= num_kills  # at most the one commit that the kill cut off

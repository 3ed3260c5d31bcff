"""The PostgreSQL server is killed, all its processes at once, while raters vote: each vote that was
acknowledged is there after its recovery, once, and the raters go on without a restart of their own."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from storage import engine
from storage.engine import Database, open_database
from storage.models import RatingEvent
from tests.faults.test_ratings_survive_kill import make_targets
from tests.postgres import Server, running
from tests.runs.helpers import wait_for

RATERS = 6
PAUSE_SECONDS = 0.01
BETWEEN_SECONDS = 0.7
"""From one start of the server to the kill, at most."""

RATER = """
import itertools, os, sys, time
from pathlib import Path
from storage.engine import open_database
from storage.errors import NotSavedError, UnreadableError
from storage.ratings import RatingInput, rate, submit

home, pause, *targets = sys.argv[1:]
db = open_database(Path(home))
asked = 0
for number in itertools.count():
    group_id, image_id = targets[number % len(targets)].split("/")
    key = f"{os.getpid()}-{number}"
    rating = RatingInput(key, "local", group_id, "stars", image_id, number % 5 + 1)
    while True:
        asked += 1
        try:
            submit(db, "local", group_id, [rating]) if number % 4 == 0 else rate(db, rating)
        except (NotSavedError, UnreadableError):
            time.sleep(0.05)  # the page says so and sends the same key again
        else:
            break
    print(key, flush=True)
    time.sleep(float(pause))
"""


@contextmanager
def rater(home: Path, url: str, targets: list[str], heard: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that rates until it is ended, and writes the key of each rating that was acknowledged."""
    command = [sys.executable, "-c", RATER, str(home), str(PAUSE_SECONDS), *targets]
    with heard.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=Path(engine.__file__).parents[1],
            stdout=output,
            env=os.environ | {"DATABASE_URL": url},
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def kill_under_load(server: Server, home: Path, kills: int, chance: random.Random) -> tuple[int, int]:
    """Returns how many ratings were acknowledged and how many are there beside those."""
    url = server.url("postgres")
    db = open_database(home, url)
    targets = make_targets(db, 10)
    files = [home / f"heard-{number}" for number in range(RATERS)]
    with ExitStack() as stack:
        raters = [stack.enter_context(rater(home, url, targets, heard)) for heard in files]
        for _ in range(kills):
            wait_for_ratings(files)
            time.sleep(chance.uniform(0, BETWEEN_SECONDS))
            server.kill()
            time.sleep(chance.uniform(0, 0.2))
            server.start()
        wait_for_ratings(files)
        assert [one.poll() for one in raters] == [None] * RATERS
    acknowledged, kept = said(files), keys_of(db)
    db.close()
    assert len(acknowledged) > kills * RATERS
    assert set(acknowledged) <= set(kept), f"{len(set(acknowledged) - set(kept))} lost"
    assert len(kept) == len(set(kept))
    return len(acknowledged), len(kept) - len(acknowledged)


def wait_for_ratings(files: list[Path]) -> None:
    """Returns once the raters have gone on."""
    before = len(said(files))
    wait_for(lambda: len(said(files)) > before + RATERS, what="ratings after a start")


def said(files: list[Path]) -> list[str]:
    """Whole lines only: a rater may be ended in the middle of one."""
    return [line for file in files for line in file.read_text().rpartition("\n")[0].split("\n") if line]


def keys_of(db: Database) -> list[str]:
    """Of all ratings; their numbers have neither gaps nor doubles."""
    with db.read() as session:
        rows = session.execute(
            select(RatingEvent.seq, RatingEvent.client_key).order_by(RatingEvent.seq)
        ).all()
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    return [row.client_key for row in rows]


@pytest.mark.slow
@pytest.mark.postgres_only
def test_every_acknowledged_rating_survives_kills_of_the_server(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    with running() as server:
        acknowledged, beside = kill_under_load(server, tmp_path / "home", 2, random.Random(0))
    assert acknowledged > 0
    assert beside <= RATERS  # what was committed and could not be said any more

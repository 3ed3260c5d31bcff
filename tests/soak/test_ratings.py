"""The promises about votes: the web killed many times, and fifty people beside a run and an export."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from psutil import Process
from sqlalchemy import select, text

from benchmarks.common import studio
from benchmarks.rating import Crowd, crowd
from flowgrpo.config import RolloutConfig, RunConfig, UpdateConfig
from flowgrpo.runs.process import RUN_MARK, mark_of, marked
from storage import checkpoints, runs
from storage.courtesy import BACKGROUND
from storage.engine import Database, open_database
from storage.models import RatingEvent
from tests.faults.test_killed_web import ANNOTATORS, make_targets, one_life
from tests.runs.helpers import ROOT

Figure = Callable[[str, str], None]
SHARE = float(os.environ.get("SOAK_SHARE", "1"))
EXPORT_EVERY_SECONDS = 3.0
"""Between the end of an export and the next: each is a new process, whose start alone takes half a second."""


def kept_keys(db: Database) -> list[str]:
    with db.read() as session:
        assert session.scalar(text("PRAGMA integrity_check")) == "ok"
        return [key.partition(":")[0] for key in session.scalars(select(RatingEvent.client_key))]


@pytest.mark.timeout(7200)
def test_no_vote_that_a_browser_was_told_is_saved_is_lost_when_the_web_is_killed(
    tmp_path: Path, figure: Figure
) -> None:
    lives, chance = max(2, round(50 * SHARE)), random.Random(1)
    db = open_database(tmp_path / "home")
    targets = make_targets(db, 20)
    said: list[str] = []
    for life in range(lives):
        said += one_life(tmp_path / "home", tmp_path / f"{life}.log", targets, chance)
    kept = kept_keys(db)
    db.close()
    assert set(said) <= set(kept)
    assert len(kept) == len(set(kept))
    assert len(kept) - len(said) <= lives * ANNOTATORS
    figure("votes when the web is killed", f"{lives} kills, {len(said):,} acknowledged, 0 lost, 0 doubled")


def is_trainer(process: Process) -> bool:
    return "flowgrpo.runs.train" in process.cmdline()[:3]


def begin_run(db: Database) -> str:
    """A run on the starter that outlasts the measurement."""
    config = RunConfig(
        prompts=[f"portrait, {hair} hair" for hair in ("red", "blue", "green", "black")],
        reward_weights={"clip": 1.0},
        num_updates=10_000,
        samples=0,
        rollout=RolloutConfig(group_size=4, groups_per_update=4, num_steps=4),
        update=UpdateConfig(learning_rate=1e-8),  # it does not learn, so that no guard pauses it
    )
    base = checkpoints.list_checkpoints(db)[0].id
    made = runs.create_run(
        db, name="beside", owner_id="local", parent_checkpoint_id=base, config=config.model_dump()
    )
    return made.id


@pytest.mark.timeout(1800)
def test_fifty_people_rate_beside_a_run_and_an_export(tmp_path: Path, figure: Figure) -> None:
    """Errors are asserted, times are told: a machine may be slower than the one of the promise."""
    home, ended = tmp_path / "home", threading.Event()
    with studio(home) as server:
        db = open_database(home)
        run_id = begin_run(db)
        exports: list[int] = []

        def export() -> None:
            while not ended.wait(EXPORT_EVERY_SECONDS):
                command = [sys.executable, "app.py", "archive", str(tmp_path / f"{len(exports)}.zip")]
                done = subprocess.run(
                    [*command, "--home", str(home)], cwd=ROOT, capture_output=True, check=False
                )
                exports.append(done.returncode)

        exporter = threading.Thread(target=export)
        exporter.start()
        day = crowd(home, server.url, Crowd(50, 30, max(5, round(60 * SHARE))))
        ended.set()
        exporter.join()
        beat = runs.beat_of(db, run_id)
        trainers = [one.nice() for one in marked(RUN_MARK, mark_of(home, run_id)) if is_trainer(one)]
        runs.request_stop(db, run_id)
        db.close()
    assert day.errors == 0
    assert exports
    assert set(exports) == {0}
    assert beat is not None
    assert trainers == [BACKGROUND]
    figure(
        "fifty people beside a run and exports",
        f"{len(day.acknowledged):,} votes, p95 {day.share(0.95):.0f} ms, p99 {day.share(0.99):.0f} ms, "
        f"0 errors, {len(exports)} exports, the run at update {beat.update}",
    )
